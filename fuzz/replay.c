// SPDX-License-Identifier: MIT
// Replays corpora through a fuzz target without libFuzzer: every file of every folder (or file) named on the command
// line, in name order. Ends with the number of inputs; no input at all is an error, so that a lost corpus is seen.
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (!f) {
        perror(path);
        return 0;
    }
    fseek(f, 0, SEEK_END);
    long size = ftell(f);
    rewind(f);
    // exactly as large as the input, so that ASan sees one byte too far
    uint8_t *data = malloc(size > 0 ? (size_t)size : 1);
    size_t got = data ? fread(data, 1, (size_t)size, f) : 0;
    fclose(f);
    LLVMFuzzerTestOneInput(data, got);
    free(data);
    return 1;
}

static int replay_path(const char *path)
{
    struct stat st;
    if (stat(path, &st)) {
        perror(path);
        return 0;
    }
    if (!S_ISDIR(st.st_mode)) return replay_file(path);
    struct dirent **entries;
    int n = scandir(path, &entries, NULL, alphasort), total = 0;
    for (int i = 0; i < n; i++) {
        char sub[4096];
        snprintf(sub, sizeof sub, "%s/%s", path, entries[i]->d_name);
        if (entries[i]->d_name[0] != '.') total += replay_file(sub);
        free(entries[i]);
    }
    if (n >= 0) free(entries);
    return total;
}

int main(int argc, char **argv)
{
    int total = 0;
    for (int i = 1; i < argc; i++) total += replay_path(argv[i]);
    printf("replayed %d inputs\n", total);
    return total > 0 ? 0 : 1;
}
