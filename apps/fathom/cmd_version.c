// SPDX-License-Identifier: MIT
// fathom version: what this binary is, for bug reports and for results/*.jsonl.
#define PCRE2_CODE_UNIT_WIDTH 8
#include <curl/curl.h>
#include <jansson.h>
#include <openssl/crypto.h>
#include <pcre2.h>
#include <stdio.h>
#include <utf8proc.h>

#include "cli_opts.h"
#include "cli_out.h"
#include "cli_stats.h"
#include "commands.h"
#include "commit.h" // FM_COMMIT: written by cmake/commit.cmake at every build, changed only with the commit

#if defined(__clang__)
#define COMPILER "clang " __clang_version__
#else
#define COMPILER "gcc " __VERSION__
#endif
#ifdef NDEBUG
#define ASSERTIONS "off"
#else
#define ASSERTIONS "on"
#endif

static json_t *libraries(void)
{
    char pcre2[64] = "";
    if (pcre2_config(PCRE2_CONFIG_VERSION, NULL) <= (int)sizeof pcre2) pcre2_config(PCRE2_CONFIG_VERSION, pcre2);
    return json_pack("{s:s, s:s, s:s, s:s, s:s}", "pcre2", pcre2, "utf8proc", utf8proc_version(), "jansson",
                     jansson_version_str(), "libcurl", curl_version_info(CURLVERSION_NOW)->version, "openssl",
                     OpenSSL_version(OPENSSL_VERSION));
}

int fm_cmd_version(int argc, char **argv)
{
    bool json = false;
    struct fm_cli_stats stats = {0};
    struct fm_cli_spec spec = {
        .name = "version",
        .summary = "print the version, how it was built and what it was linked with",
        .examples = "  fathom version\n  fathom version --json\n",
        .json = &json,
        .stats = &stats.on,
    };
    int code;
    if (!fm__cli_parse(&spec, argc, argv, &code)) return code;

    fm__cli_stats_begin(&stats);
    json_t *libs = libraries();
    json_t *all = json_pack("{s:s, s:s, s:s, s:s, s:o}", "version", FM_VERSION, "commit", FM_COMMIT, "compiler",
                            COMPILER, "assertions", ASSERTIONS, "libraries", libs);
    if (json && all) {
        fm__cli_stats_end(&stats, NULL);
        fm__cli_stats_json(&stats, all);
    }
    if (json || !all) return fm__cli_json(all);
    printf("fathom %s (%s)\nbuilt with %s, assertions %s\n", FM_VERSION, FM_COMMIT, COMPILER, ASSERTIONS);
    const char *name;
    json_t *value;
    json_object_foreach(libs, name, value) printf("%s %s\n", name, json_string_value(value));
    json_decref(all);
    fm__cli_stats_show(&stats, NULL, false);
    return 0;
}
