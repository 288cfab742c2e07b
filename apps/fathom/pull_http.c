// SPDX-License-Identifier: MIT
// Downloads over HTTP(S) with libcurl. A download that was cut goes on where it stopped: Range with If-Range and the
// validator (ETag or Last-Modified) that TARGET.part.from remembers together with the URL; a server that answers 200 to
// that sends the whole file, and the part starts over. Within one call cut connections are retried the same way.
#include <curl/curl.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/error.h"
#include "cli_out.h"
#include "pull.h"

struct transfer {
    struct fm_pull *pull;
    const char *url;
    CURL *curl;
    char validator[200];   // of the answer; empty: none that a range could rely on
    uint64_t range_start;  // Content-Range of the answer
    bool has_range, begun; // begun: the first bytes of an accepted answer came
    fm_status status;      // of our own part of the work
    struct fm_error err;
    struct fm_cli_progress progress;
};

// --- what is known about the part -------------------------------------------------------------------------------

static FILE *open_from(const struct fm_pull *pull, const char *mode)
{
    char *path;
    if (asprintf(&path, "%s.part.from", pull->target) < 0) return NULL;
    FILE *f = fopen(path, mode);
    free(path);
    return f;
}

// Two lines: the URL, the validator. Losing this file only means that the next download starts at byte 0.
static void remember(const struct transfer *t)
{
    FILE *f = open_from(t->pull, "we");
    if (!f) return;
    fprintf(f, "%s\n%s\n", t->url, t->validator);
    fclose(f);
}

// Fills t->validator; true if the part holds a beginning of this URL's file.
static bool recall(struct transfer *t)
{
    t->validator[0] = 0;
    FILE *f = t->pull->bytes ? open_from(t->pull, "re") : NULL;
    if (!f) return false;
    char *line = NULL;
    size_t cap = 0;
    ssize_t n = getline(&line, &cap, f);
    bool same = n > 1 && (size_t)(n - 1) == strlen(t->url) && memcmp(line, t->url, (size_t)(n - 1)) == 0;
    n = same ? getline(&line, &cap, f) : 0;
    if (n > 1 && (size_t)n <= sizeof t->validator) {
        memcpy(t->validator, line, (size_t)(n - 1));
        t->validator[n - 1] = 0;
    }
    free(line);
    fclose(f);
    return same && (t->validator[0] || t->pull->sha256); // without a validator only the hash can tell a mixture
}

// --- the answer --------------------------------------------------------------------------------------------------

// "name: value\r\n" → value without blanks at the ends, if the name fits
static bool header_value(const char *line, size_t n, const char *name, char *value, size_t size)
{
    size_t len = strlen(name);
    if (n <= len || strncasecmp(line, name, len) != 0 || line[len] != ':') return false;
    size_t begin = len + 1, end = n;
    while (begin < end && (line[begin] == ' ' || line[begin] == '\t')) begin++;
    while (end > begin && (line[end - 1] == '\r' || line[end - 1] == '\n' || line[end - 1] == ' ')) end--;
    if (end - begin >= size) return false;
    memcpy(value, line + begin, end - begin);
    value[end - begin] = 0;
    return true;
}

static size_t on_header(char *line, size_t size, size_t n, void *user)
{
    struct transfer *t = user;
    char value[200];
    n *= size;
    if (n > 5 && memcmp(line, "HTTP/", 5) == 0) { // a new answer: after a redirect, say
        t->validator[0] = 0;
        t->has_range = false;
    } else if (header_value(line, n, "ETag", value, sizeof value)) {
        if (value[0] == '"') memcpy(t->validator, value, sizeof value); // a weak one ("W/") does not promise the bytes
    } else if (header_value(line, n, "Last-Modified", value, sizeof value)) {
        if (!t->validator[0]) memcpy(t->validator, value, sizeof value);
    } else if (header_value(line, n, "Content-Range", value, sizeof value)) {
        t->has_range = sscanf(value, "bytes %" SCNu64 "-", &t->range_start) == 1;
    }
    return n;
}

// First bytes of a good answer: is it the rest of our part, or the whole?
static fm_status begin_body(struct transfer *t, long code)
{
    struct fm_pull *pull = t->pull;
    t->begun = true;
    if (code == 206) {
        if (!t->has_range || t->range_start != pull->bytes) {
            return fm__fail(&t->err, FM_E_NETWORK,
                            "%s: the server sent another range than asked for (from %" PRIu64 ")", t->url, pull->bytes);
        }
    } else {
        FM_TRY(fm__pull_truncate(pull, 0, &t->err));
    }
    remember(t);
    curl_off_t rest = -1;
    curl_easy_getinfo(t->curl, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &rest);
    if (rest > 0) FM_TRY(fm__pull_room(pull, (uint64_t)rest, &t->err));
    fm__cli_progress_begin(&t->progress, pull->label, pull->bytes, rest > 0 ? pull->bytes + (uint64_t)rest : 0);
    return FM_OK;
}

static size_t on_body(char *bytes, size_t size, size_t n, void *user)
{
    struct transfer *t = user;
    long code = 0;
    n *= size;
    curl_easy_getinfo(t->curl, CURLINFO_RESPONSE_CODE, &code);
    if (code != 200 && code != 206) return n; // an error's page: read past it
    if (!t->begun) t->status = begin_body(t, code);
    if (t->status == FM_OK) t->status = fm__pull_write(t->pull, bytes, n, &t->err);
    if (t->status != FM_OK) return 0;
    fm__cli_progress_update(&t->progress, t->pull->bytes);
    return n;
}

// --- attempts ----------------------------------------------------------------------------------------------------

static bool transient(CURLcode result, long code)
{
    switch (result) {
    case CURLE_OK:
        return code == 408 || code == 429 || (code >= 500 && code != 501);
    case CURLE_COULDNT_CONNECT:
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_OPERATION_TIMEDOUT:
    case CURLE_PARTIAL_FILE:
    case CURLE_GOT_NOTHING:
    case CURLE_RECV_ERROR:
    case CURLE_SEND_ERROR:
    case CURLE_HTTP2:
    case CURLE_HTTP2_STREAM:
        return true;
    default:
        return false;
    }
}

static void set_options(struct transfer *t, struct curl_slist *headers, bool resume)
{
    CURL *curl = t->curl;
    char range[32];
    snprintf(range, sizeof range, "%" PRIu64 "-", t->pull->bytes);
    curl_easy_setopt(curl, CURLOPT_URL, t->url);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 1L);
    curl_easy_setopt(curl, CURLOPT_MAXREDIRS, 10L);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_USERAGENT, "fathom/" FM_VERSION);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, 30L);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, 1L); // a byte a second for a minute is a dead connection
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, 60L);
    curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(curl, CURLOPT_HEADERDATA, t);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, t);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(curl, CURLOPT_RANGE, resume ? range : NULL);
}

// One request. *again: it may be tried once more.
static fm_status attempt(struct transfer *t, bool *again)
{
    char line[220];
    struct curl_slist *headers = NULL;
    bool resume = recall(t);
    if (resume) {
        t->pull->resumed_at = t->pull->bytes;
        snprintf(line, sizeof line, "If-Range: %s", t->validator);
        if (t->validator[0]) headers = curl_slist_append(headers, line);
    }
    t->begun = t->has_range = *again = false;
    t->status = FM_OK;
    curl_easy_reset(t->curl);
    set_options(t, headers, resume);
    CURLcode result = curl_easy_perform(t->curl);
    fm__cli_progress_end(&t->progress);
    curl_slist_free_all(headers);
    long code = 0;
    curl_easy_getinfo(t->curl, CURLINFO_RESPONSE_CODE, &code);
    if (t->status != FM_OK) return t->status;
    if (result == CURLE_OK && (code == 200 || code == 206)) {
        return t->begun ? FM_OK : fm__pull_truncate(t->pull, 0, &t->err); // an empty file has no body
    }
    if (result == CURLE_OK && code == 416 && resume) { // the part is not shorter than the file: begin again
        *again = true;
        FM_TRY(fm__pull_truncate(t->pull, 0, &t->err));
        return fm__fail(&t->err, FM_E_NETWORK, "%s: the server has nothing from that byte on", t->url);
    }
    *again = transient(result, code);
    if (result != CURLE_OK) {
        return fm__fail(&t->err, FM_E_NETWORK, "%s: %s (%" PRIu64 " bytes are kept)", t->url,
                        curl_easy_strerror(result), t->pull->bytes);
    }
    return fm__fail(&t->err, code == 404 || code == 410 ? FM_E_NOT_FOUND : FM_E_NETWORK, "%s: HTTP status %ld", t->url,
                    code);
}

fm_status fm__pull_from_url(struct fm_pull *pull, const char *url, struct fm_error *err)
{
    struct transfer t = {.pull = pull, .url = url};
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK || !(t.curl = curl_easy_init())) {
        return fm__fail(err, FM_E_NOMEM, "%s: cannot start libcurl", url);
    }
    fm_status status;
    uint64_t first = 0;
    bool again;
    for (int failures = 0;;) {
        uint64_t before = pull->bytes;
        status = attempt(&t, &again);
        if (before && !first) first = pull->resumed_at;
        if (status == FM_OK || !again) break;
        failures = pull->bytes > before ? 0 : failures + 1;
        if (failures > pull->retries) break;
        int64_t ns = failures ? INT64_C(250000000) << (failures < 6 ? failures : 6) : 0; // 0.5 s, 1 s, 2 s …
        nanosleep(&(struct timespec){ns / 1000000000, ns % 1000000000}, NULL);
    }
    pull->resumed_at = first;
    curl_easy_cleanup(t.curl);
    if (status != FM_OK && err) *err = t.err;
    return status;
}
