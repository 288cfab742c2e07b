// SPDX-License-Identifier: MIT
// Chat templates against texts that jinja2 wrote (scripts/make_template_goldens.py), the bounds of a run, the errors,
// and a failing allocation at every place one can fail.
#include "support/support.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "fathom/chat.h"

enum { GOLDEN_TIME = 1732539600 }; // what strftime_now said when the goldens were made

static json_t *load_json(const char *name)
{
    char file[200];
    snprintf(file, sizeof file, "templates/%s", name);
    json_error_t problem;
    json_t *json = json_load_file(test_data(file), 0, &problem);
    if (!json) fail_msg("%s: %s", name, problem.text);
    return json;
}

static fm_status render(const char *text, size_t n, const char *variables, char **out, size_t *n_out,
                        struct fm_error *err)
{
    struct fm_chat_template *tmpl;
    fm_status status = fm_chat_template_new(text, n, &tmpl, err);
    *out = NULL;
    if (status != FM_OK) return status;
    struct fm_chat_args args = {.variables_json = variables, .unix_time = GOLDEN_TIME};
    status = fm_chat_apply(tmpl, &args, out, n_out, err);
    fm_chat_template_free(tmpl);
    return status;
}

// Renders and compares with the golden: a text, or null where jinja2 raised.
static int check(const json_t *golden, const char *text, size_t n, const char *variables)
{
    struct fm_error err = {0};
    char *out;
    size_t n_out = 0;
    const char *name = json_string_value(json_object_get(golden, "name"));
    const char *context = json_string_value(json_object_get(golden, "context"));
    const json_t *want = json_object_get(golden, "text");
    fm_status status = render(text, n, variables, &out, &n_out, &err);
    bool same = json_is_null(want) ? status != FM_OK && err.text[0]
                                   : status == FM_OK && n_out == json_string_length(want) &&
                                         !memcmp(out, json_string_value(want), n_out);
    if (!same)
        print_error("%s %s: %s\n  want: %s\n  got:  %s\n", name, context ? context : "", err.text,
                    json_is_null(want) ? "an error" : json_string_value(want), out ? out : "an error");
    fm_chat_text_free(out);
    return !same;
}

// A list of goldens whose templates are files of `folder`.
static int check_files(const char *goldens, const char *folder)
{
    json_t *list = load_json(goldens), *contexts = load_json("contexts.json");
    int wrong = 0;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *golden = json_array_get(list, i);
        char path[4096];
        size_t n;
        snprintf(path, sizeof path, "%s/%s", folder, json_string_value(json_object_get(golden, "name")));
        char *text = (char *)test_read_file(path, &n);
        char *variables =
            json_dumps(json_object_get(contexts, json_string_value(json_object_get(golden, "context"))), 0);
        wrong += check(golden, text, n, variables);
        free(text), free(variables);
    }
    printf("%s: %zu renderings\n", goldens, json_array_size(list));
    json_decref(list), json_decref(contexts);
    return wrong;
}

static void own_templates(void **state)
{
    (void)state;
    char folder[4096];
    snprintf(folder, sizeof folder, "%s", test_data("templates"));
    assert_int_equal(check_files("own.json", folder), 0);
}

// The models' own templates lie in an archive beside the repository.
static void shared_templates(void **state)
{
    (void)state;
    const char *archive = test_shared("data/gguf-vocabs.tar.zst");
    if (!archive) skip();
    char command[9000], folder[4096];
    snprintf(command, sizeof command, "tar -C %s -xf %s gguf-vocabs/models/templates", test_tmpdir(), archive);
    if (system(command) != 0) {
        printf("skipped: tar cannot unpack %s\n", archive);
        skip();
    }
    snprintf(folder, sizeof folder, "%s/gguf-vocabs/models/templates", test_tmpdir());
    assert_int_equal(check_files("shared.json", folder), 0);
}

static int check_inline(const json_t *list, const char *variables)
{
    int wrong = 0;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *golden = json_array_get(list, i), *text = json_object_get(golden, "template");
        wrong += check(golden, json_string_value(text), json_string_length(text), variables);
    }
    return wrong;
}

static void snippets(void **state)
{
    (void)state;
    json_t *list = load_json("snippets.json");
    assert_int_equal(check_inline(list, "{}"), 0);
    json_decref(list);
}

static void random_templates(void **state)
{
    (void)state;
    json_t *file = load_json("random.json");
    char *variables = json_dumps(json_object_get(file, "variables"), 0);
    assert_int_equal(check_inline(json_object_get(file, "cases"), variables), 0);
    free(variables);
    json_decref(file);
}

// --- the API ---

static struct fm_chat_template *parsed(const char *text)
{
    struct fm_error err = {0};
    struct fm_chat_template *tmpl;
    assert_ok(fm_chat_template_new(text, strlen(text), &tmpl, &err), err);
    return tmpl;
}

static void messages_as_structs(void **state)
{
    (void)state;
    struct fm_error err = {0};
    struct fm_chat_template *tmpl = parsed("{% for m in messages %}{{ m.role }}={{ m.content|length }};{% endfor %}"
                                           "{{ bos_token }}{{ eos_token }}{{ add_generation_prompt }}{{ tools }}");
    struct fm_chat_message messages[] = {{"user", "h\xc3\xa9llo\0x", 8}, {"assistant", NULL, 0}};
    struct fm_chat_args args = {
        .messages = messages, .n_messages = 2, .bos_token = "<s>", .eos_token = "</s>", .add_generation_prompt = true};
    char *out;
    size_t n;
    assert_ok(fm_chat_apply(tmpl, &args, &out, &n, &err), err);
    assert_string_equal(out, "user=7;assistant=0;<s></s>TrueNone");
    assert_int_equal(n, strlen(out));
    fm_chat_text_free(out);
    // JSON in place of structs, and variables over both
    args.messages_json = "[{\"role\": \"tool\", \"content\": \"ab\", \"more\": [1]}]";
    args.variables_json = "{\"tools\": [1.0], \"eos_token\": \"E\"}";
    assert_ok(fm_chat_apply(tmpl, &args, &out, &n, &err), err);
    assert_string_equal(out, "tool=2;<s>ETrue[1.0]");
    fm_chat_text_free(out);
    fm_chat_template_free(tmpl);
}

static void refused(const char *text, const char *variables, fm_status want, const char *says)
{
    struct fm_error err = {0};
    char *out;
    size_t n;
    fm_status status = render(text, strlen(text), variables, &out, &n, &err);
    if (status != want || !strstr(err.text, says) || out)
        fail_msg("%.60s: status %d (want %d), \"%s\" (want \"%s\")", text, status, want, err.text, says);
}

static void errors_name_the_line(void **state)
{
    (void)state;
    struct fm_error err = {0};
    struct fm_chat_template *tmpl;
    assert_int_equal(fm_chat_template_new(NULL, 0, &tmpl, &err), FM_E_NOT_FOUND);
    assert_null(tmpl);
    assert_non_null(strstr(err.text, "no chat template"));
    refused("a\nb\n{{ 1 + }}", "{}", FM_E_FORMAT, "line 3");
    refused("a\n{% for x in y %}\nb", "{}", FM_E_FORMAT, "want {% endfor %}");
    refused("a\n\n{{ nope.x }}", "{}", FM_E_FORMAT, "line 3: 'nope' is undefined");
    refused("{{ raise_exception('only users') }}", "{}", FM_E_ARG, "line 1: the template refuses: only users");
    refused("{% include 'x' %}", "{}", FM_E_UNSUPPORTED, "include");
    refused("a \xff b", "{}", FM_E_FORMAT, "byte 2 is not UTF-8");
    refused("x", "[1]", FM_E_FORMAT, "want a JSON object");
    refused("x", "{\"a\": ", FM_E_FORMAT, "template variables: line 1");
    refused("x", "{\"a\": \"\xff\"}", FM_E_FORMAT, "template variables");
    tmpl = parsed("x");
    struct fm_chat_message bad = {"user", "\xc3", 1};
    struct fm_chat_args args = {.messages = &bad, .n_messages = 1};
    char *out;
    size_t n;
    assert_int_equal(fm_chat_apply(tmpl, &args, &out, &n, &err), FM_E_FORMAT);
    assert_null(out);
    bad.role = NULL;
    assert_int_equal(fm_chat_apply(tmpl, &args, &out, &n, &err), FM_E_ARG);
    fm_chat_template_free(tmpl);
}

// `open` n times, `middle`, `close` n times.
static char *nested(const char *open, const char *middle, const char *close, int n)
{
    size_t size = (strlen(open) + strlen(close)) * (size_t)n + strlen(middle) + 1, at = 0;
    char *text = malloc(size);
    assert_non_null(text);
    for (int i = 0; i < n; i++) at += (size_t)sprintf(text + at, "%s", open);
    at += (size_t)sprintf(text + at, "%s", middle);
    for (int i = 0; i < n; i++) at += (size_t)sprintf(text + at, "%s", close);
    return text;
}

static void nesting_is_bounded(void **state)
{
    (void)state;
    static const char *const shapes[][3] = {
        {"{% if 1 %}", "x", "{% endif %}"},
        {"{{ (", "1", ") }}"},
        {"", "", ""},
        {"{% for x in y %}", "", "{% endfor %}"},
        {"{% set x %}", "", "{% endset %}"},
    };
    static const char *const inner[][3] = {
        {"(", "1", ")"},  {"[", "1", "]"},    {"{1:", "1", "}"},   {"not ", "1", ""},         {"-", "1", ""},
        {"f(", "1", ")"}, {"", "1", " + 1"},  {"", "1", " and 1"}, {"", "1", " if 1 else 1"}, {"x[", "1", "]"},
        {"", "x", ".x"},  {"", "x", "|trim"}, {"", "x", "()"},     {"1 if ", "1", " else 1"}, {"", "x", " is defined"},
    };
    struct fm_error err;
    char *out;
    size_t n;
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        char *text = nested(shapes[i][0], shapes[i][1], shapes[i][2], 5000);
        fm_status status = text[0] ? render(text, strlen(text), "{}", &out, &n, &err) : FM_E_LIMIT;
        assert_true(status == FM_E_LIMIT || status == FM_E_FORMAT);
        free(text);
    }
    for (size_t i = 0; i < sizeof inner / sizeof inner[0]; i++) {
        char *middle = nested(inner[i][0], inner[i][1], inner[i][2], 20000);
        char *text = nested("{{ ", middle, " }}", 1);
        fm_status status = render(text, strlen(text), "{}", &out, &n, &err);
        if (status == FM_OK) fail_msg("\"%s\" 20000 deep was accepted", inner[i][2]);
        free(text), free(middle);
    }
}

static void runs_are_bounded(void **state)
{
    (void)state;
    refused("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "{}", FM_E_LIMIT, "deep");
    refused("{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}{% if 1 %}{{ a()|trim }}{% endif %}{% endmacro %}{{ "
            "a() }}",
            "{}", FM_E_LIMIT, "deep");
    refused("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", "{}", FM_E_LIMIT,
            "than a template may take");
    refused("{% set ns = namespace(s='xxxxxxxx') %}{% for a in range(99) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
            "{}", FM_E_LIMIT, "than a template may take");
    refused("{{ 'x' * 999999999999 }}", "{}", FM_E_LIMIT, "than a template may take");
    refused("{{ [1] * 999999999999 }}", "{}", FM_E_LIMIT, "than a template may take");
    refused("{{ '%99999999s' % 'x' }}", "{}", FM_E_LIMIT, "wider");
    refused("{{ 'x'.center(99999999999) }}", "{}", FM_E_LIMIT, "than a template may take");
    refused("{% set ns = namespace(l=[]) %}{% for a in range(9999) %}{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l }}",
            "{}", FM_E_LIMIT, "too deeply");
    refused("{% set ns = namespace() %}{% set ns.me = ns %}{{ ns }}", "{}", FM_E_LIMIT, "too deeply");
    refused("{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}", "{}", FM_E_LIMIT, "deep");
    refused("{{ 9223372036854775807 + 1 }}", "{}", FM_E_LIMIT, "64 bits");
    refused("{{ 99999999999999999999 }}", "{}", FM_E_LIMIT, "64 bits");
    refused("{{ 10 ** 99 }}", "{}", FM_E_LIMIT, "64 bits");
    struct fm_error err = {0};
    struct fm_chat_template *tmpl = parsed("{% for a in range(1000) %}0123456789{% endfor %}");
    char *out;
    size_t n;
    struct fm_chat_args args = {.limits = {.max_output = 10000}};
    assert_ok(fm_chat_apply(tmpl, &args, &out, &n, &err), err);
    assert_int_equal(n, 10000);
    fm_chat_text_free(out);
    args.limits.max_output = 9999;
    assert_int_equal(fm_chat_apply(tmpl, &args, &out, &n, &err), FM_E_LIMIT);
    args.limits = (struct fm_chat_limits){.max_steps = 500};
    assert_int_equal(fm_chat_apply(tmpl, &args, &out, &n, &err), FM_E_LIMIT);
    args.limits = (struct fm_chat_limits){.max_memory = 5000};
    assert_int_equal(fm_chat_apply(tmpl, &args, &out, &n, &err), FM_E_LIMIT);
    fm_chat_template_free(tmpl);
}

// Every allocation fails once, from the first until the call succeeds; leaks show in the sanitizer build.
static void every_allocation_may_fail(void **state)
{
    (void)state;
    size_t n_text, n;
    char *text = (char *)test_read_file(test_data("templates/thinking-style.jinja"), &n_text), *out;
    json_t *contexts = load_json("contexts.json");
    char *variables = json_dumps(json_object_get(contexts, "calls"), 0);
    fm_status status = FM_E_NOMEM;
    int failures = 0;
    for (; status != FM_OK; failures++) {
        struct fm_error err = {0};
        fm__alloc_fail_after(failures, false);
        status = render(text, n_text, variables, &out, &n, &err);
        fm__alloc_fail_after(-1, false);
        if (status != FM_OK) assert_int_equal(status, FM_E_NOMEM);
        if (status != FM_OK) assert_null(out);
        assert_true(failures < 10000);
    }
    assert_true(failures > 10);
    printf("failed cleanly at each of %d allocations\n", failures - 1);
    fm_chat_text_free(out);
    free(text), free(variables);
    json_decref(contexts);
}

int main(void)
{
    setenv("TZ", "UTC", 1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(own_templates),
        cmocka_unit_test(shared_templates),
        cmocka_unit_test(snippets),
        cmocka_unit_test(random_templates),
        cmocka_unit_test(messages_as_structs),
        cmocka_unit_test(errors_name_the_line),
        cmocka_unit_test(nesting_is_bounded),
        cmocka_unit_test(runs_are_bounded),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
