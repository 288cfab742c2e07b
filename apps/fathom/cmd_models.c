// SPDX-License-Identifier: MIT
// fathom models: what the catalogue knows and what the cache holds, with sizes, paths and whether the hash was checked.
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "catalog.h"
#include "cli_opts.h"
#include "cli_out.h"
#include "cli_stats.h"
#include "commands.h"

struct row {
    const char *name; // catalogue name, or the file's
    const char *about, *want;
    char *path;
    uint64_t bytes;
    bool here, is_default;
    char hex[FM__SHA256_HEX];
    const char *verified; // "yes", "no", "wrong"
};

static void inspect_file(struct row *row, bool verify)
{
    struct stat st;
    row->verified = "no";
    row->here = stat(row->path, &st) == 0 && S_ISREG(st.st_mode);
    if (!row->here) return;
    row->bytes = (uint64_t)st.st_size;
    char recorded[FM__SHA256_HEX];
    bool known = fm__verified_read(row->path, recorded);
    const char *want = row->want ? row->want : known ? recorded : NULL;
    if (known) memcpy(row->hex, recorded, sizeof recorded);
    if (verify && fm__sha256_file(row->path, row->hex, NULL) != FM_OK) row->hex[0] = 0;
    if (!want || (!known && !verify)) return;
    row->verified = strcmp(row->hex, want) == 0 ? "yes" : "wrong";
}

static int print_row(const struct row *row, bool json)
{
    char size[24];
    if (json) {
        return fm__cli_json(json_pack("{s:o, s:b, s:b, s:I, s:o, s:s, s:s, s:s}", "name",
                                      fm__cli_text(row->name, strlen(row->name)), "default", row->is_default, "here",
                                      row->here, "bytes", (json_int_t)row->bytes, "path",
                                      fm__cli_text(row->path, strlen(row->path)), "sha256",
                                      row->hex[0] ? row->hex
                                      : row->want ? row->want
                                                  : "",
                                      "verified", row->verified, "about", row->about));
    }
    printf("%-28s %9s  %-9s %s\n", row->name, fm__cli_bytes(size, row->bytes),
           !row->here                            ? "-"
           : strcmp(row->verified, "yes") == 0   ? "verified"
           : strcmp(row->verified, "wrong") == 0 ? "WRONG"
                                                 : "unchecked",
           row->here ? row->path : row->about);
    return 0;
}

static bool in_catalog(const char *file)
{
    for (size_t i = 0; i < fm__catalog_n; i++) {
        if (strcmp(fm__catalog[i].file, file) == 0) return true;
    }
    return false;
}

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

static fm_status list_catalog(const char *folder, bool verify, bool json, struct fm_error *err)
{
    for (size_t i = 0; i < fm__catalog_n; i++) {
        const struct fm_catalog_entry *e = &fm__catalog[i];
        struct row row = {
            .name = e->name, .about = e->about, .want = e->sha256, .bytes = e->bytes, .is_default = i == 0};
        if (asprintf(&row.path, "%s/%s", folder, e->file) < 0) return fm__fail_nomem(err, "path", strlen(folder));
        inspect_file(&row, verify);
        print_row(&row, json);
        free(row.path);
    }
    return FM_OK;
}

// What was pulled by URL or path: every *.gguf of the folder that the catalogue does not name.
static fm_status list_others(const char *folder, bool verify, bool json, struct fm_error *err)
{
    struct dirent **names;
    int n = scandir(folder, &names, NULL, alphasort);
    if (n < 0) return errno == ENOENT ? FM_OK : fm__fail(err, FM_E_IO, "%s: cannot list: %s", folder, strerror(errno));
    fm_status status = FM_OK;
    for (int i = 0; i < n; i++) {
        const char *name = names[i]->d_name;
        struct row row = {.name = name, .about = ""};
        if (status == FM_OK && ends_with(name, ".gguf") && !in_catalog(name)) {
            if (asprintf(&row.path, "%s/%s", folder, name) < 0) {
                status = fm__fail_nomem(err, "path", strlen(folder));
            } else {
                inspect_file(&row, verify);
                print_row(&row, json);
                free(row.path);
            }
        }
        free(names[i]);
    }
    free(names);
    return status;
}

int fm_cmd_models(int argc, char **argv)
{
    bool json = false, verify = false;
    struct fm_cli_stats stats = {0};
    struct fm_cli_opt opts[] = {
        {.names = "--verify",
         .type = FM_CLI_FLAG,
         .out = &verify,
         .help = "read every file and check its SHA-256 again"},
    };
    struct fm_cli_spec spec = {
        .name = "models",
        .summary = "list the models of the catalogue and of the cache",
        .text = "A name of the first column works wherever a command takes a model (-m). \"verified\" means that the\n"
                "file's SHA-256 was checked and the file has not changed since.",
        .examples = "  fathom models\n  fathom models --verify --json   # one JSON object a line\n",
        .groups = {{"Options", opts, FM_CLI_N(opts)}},
        .json = &json,
        .stats = &stats.on,
    };
    int code;
    if (!fm__cli_parse(&spec, argc, argv, &code)) return code;
    struct fm_error err = {0};
    char *folder;
    fm__cli_stats_begin(&stats);
    fm_status status = fm__catalog_folder(false, &folder, &err);
    if (status == FM_OK) status = list_catalog(folder, verify, json, &err);
    if (status == FM_OK) status = list_others(folder, verify, json, &err);
    free(folder);
    if (status == FM_OK) fm__cli_stats_show(&stats, NULL, json);
    return status == FM_OK ? 0 : fm__cli_error("models", &err, json);
}
