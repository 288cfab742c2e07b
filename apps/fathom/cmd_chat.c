// SPDX-License-Identifier: MIT
// fathom chat: one answer to the argument, or a conversation.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "chat_line.h"
#include "chat_talk.h"
#include "cli_engine.h"
#include "cli_input.h"
#include "cli_interrupt.h"
#include "cli_out.h"
#include "cli_sampling.h"
#include "cli_template.h"
#include "commands.h"

struct command {
    bool json, ignored;
    const char *system, *template_file;
    struct fm_cli_answer answer;
    struct fm_cli_engine_args args;
    struct fm_cli_input input;
    struct fm_cli_sampling sampling;
    struct fm_cli_stats stats;
    struct fm_cli_trace trace;
    struct fm_cli_engine engine;
    struct fm_chat_template *tmpl;
    struct fm_chat_talk talk;
};

static fm_status open_all(struct command *c, struct fm_error *err)
{
    FM_TRY(fm__cli_trace_begin(&c->trace, err));
    double begun = fm__seconds();
    FM_TRY(fm__cli_engine_open(&c->engine, &c->args, err));
    FM_TRY(fm__cli_template(&c->engine, c->template_file, &c->tmpl, err));
    FM_TRY(fm__cli_engine_batcher(&c->engine, &c->args, 1, err));
    FM_TRY(fm__cli_trace_span(&c->trace, "load", begun, fm__seconds(), err));
    c->talk = (struct fm_chat_talk){.engine = &c->engine,
                                    .tmpl = c->tmpl,
                                    .trace = &c->trace,
                                    .stats = &c->stats,
                                    .reply = fm__cli_answer_args(&c->answer)};
    c->talk.reply.valid = true; // answers go back into the template, which takes UTF-8 only
    if (!c->json) c->talk.reply.emit = fm__cli_to_stdout;
    FM_TRY(fm_session_new(c->engine.batcher, &c->talk.session, err));
    FM_TRY(fm__cli_sampler_new(&c->sampling, &c->engine, 0, c->answer.ignore_eos, &c->talk.sampler, err));
    return c->system ? fm__chat_talk_system(&c->talk, c->system, strlen(c->system), err) : FM_OK;
}

static void close_all(struct command *c)
{
    fm__chat_talk_free(&c->talk);
    fm_sampler_free(c->talk.sampler);
    fm_session_free(c->talk.session);
    fm_chat_template_free(c->tmpl);
    fm__cli_engine_close(&c->engine);
}

// One question. *finish: how the answer ended.
static fm_status ask(struct command *c, const char *text, size_t n, enum fm_cli_finish *finish, struct fm_error *err)
{
    struct fm_cli_reply reply;
    fm__cli_interrupt_begin(c->engine.batcher);
    fm_status status = fm__chat_talk_ask(&c->talk, text, n, &reply, err);
    fm__cli_interrupt_end();
    if (status == FM_OK) {
        fm__cli_stats_end(&c->stats, &c->engine);
        if (c->json) {
            json_t *all = fm__cli_reply_json(&reply);
            fm__cli_stats_json(&c->stats, all);
            fm__cli_json(all);
        } else {
            putchar('\n');
            fm__cli_stats_print(&c->stats);
        }
        fflush(stdout);
        *finish = reply.finish;
    }
    fm__cli_reply_end(&reply);
    return status;
}

static const char help_text[] = "  /help           this\n"
                                "  /reset          forget the conversation (the system prompt stays)\n"
                                "  /system TEXT    set the system prompt; without TEXT remove it\n"
                                "  /save FILE      write the conversation to FILE, what is computed to FILE.kv\n"
                                "  /load FILE      go on with a saved one\n"
                                "  /stats          speed, memory, operations so far\n"
                                "  /quit           end (Ctrl-D too)\n"
                                "A line that ends in \\ goes on in the next; lines between \"\"\" and \"\"\" are one "
                                "text.\nCtrl-C stops an answer.\n";

static void show_stats(struct command *c)
{
    struct fm_cli_stats stats = c->stats;
    stats.on = true;
    fm__cli_stats_end(&stats, &c->engine);
    fm__cli_stats_print(&stats);
}

static void unknown(const char *line, size_t n)
{
    static const char *const words[] = {"/help", "/reset", "/save", "/load", "/system", "/stats", "/quit", NULL};
    char word[32];
    snprintf(word, sizeof word, "%.*s", (int)n, line);
    const char *closest = fm__cli_closest(word, words);
    if (closest)
        fprintf(stderr, "fathom: unknown command %s; did you mean %s? (/help lists them)\n", word, closest);
    else
        fprintf(stderr, "fathom: unknown command %s (/help lists them)\n", word);
}

// A line that begins with '/'. False: quit.
static bool slash(struct command *c, const char *line, struct fm_error *err, fm_status *status)
{
    size_t n = strcspn(line, " \t\n");
    const char *argument = line + n + strspn(line + n, " \t\n");
    bool needs_file = strncmp(line, "/save", n) == 0 || strncmp(line, "/load", n) == 0;
    *status = FM_OK;
    if (n == 5 && strncmp(line, "/quit", n) == 0) return false;
    if (n == 5 && strncmp(line, "/exit", n) == 0) return false;
    if (n == 5 && needs_file && !argument[0]) {
        fprintf(stderr, "fathom: %.5s needs a file name\n", line);
    } else if (n == 5 && strncmp(line, "/help", n) == 0) {
        fputs(help_text, stderr);
    } else if (n == 6 && strncmp(line, "/reset", n) == 0) {
        fm__chat_talk_reset(&c->talk);
        fprintf(stderr, "fathom: a new conversation\n");
    } else if (n == 7 && strncmp(line, "/system", n) == 0) {
        *status = fm__chat_talk_system(&c->talk, argument, strlen(argument), err);
    } else if (n == 5 && strncmp(line, "/save", n) == 0) {
        *status = fm__chat_talk_save(&c->talk, argument, err);
        if (*status == FM_OK) fprintf(stderr, "fathom: %zu messages saved\n", c->talk.n);
    } else if (n == 5 && strncmp(line, "/load", n) == 0) {
        *status = fm__chat_talk_load(&c->talk, argument, err);
        if (*status == FM_OK) fprintf(stderr, "fathom: %zu messages loaded\n", c->talk.n);
    } else if (n == 6 && strncmp(line, "/stats", n) == 0) {
        show_stats(c);
    } else {
        unknown(line, n);
    }
    return true;
}

static fm_status converse(struct command *c, struct fm_error *err)
{
    struct fm_chat_line *line;
    struct fm_cli_text text = {0};
    FM_TRY(fm__chat_line_open(&line, err));
    c->stats.conversation = true;
    if (isatty(0)) fm__cli_interrupt_ignore();
    if (isatty(0))
        fprintf(stderr, "%s (%s, %d tokens of context). /help explains, /quit ends.\n", c->engine.info.name,
                c->engine.info.type, c->engine.n_ctx);
    for (;;) {
        enum fm_chat_read what = fm__chat_line_read(line, &text);
        if (what == FM_CHAT_EOF) break;
        if (what == FM_CHAT_INTERRUPT) continue;
        if (!text.n || strspn(text.p, " \t\n") == text.n) continue;
        fm_status status = FM_OK;
        struct fm_error why = {0};
        enum fm_cli_finish finish;
        if (text.p[0] == '/') {
            if (!slash(c, text.p, &why, &status)) break;
        } else {
            status = ask(c, text.p, text.n, &finish, &why);
        }
        if (status != FM_OK) fm__cli_error("chat", &why, c->json); // and the conversation goes on
    }
    fm__cli_text_free(&text);
    fm__chat_line_close(line);
    return FM_OK;
}

static fm_status one_answer(struct command *c, struct fm_error *err)
{
    char *text = NULL;
    size_t n;
    enum fm_cli_finish finish = FM_CLI_RUNNING;
    FM_TRY(fm__cli_input_text(&c->input, &text, &n, err));
    fm_status status = open_all(c, err);
    if (status == FM_OK) status = ask(c, text, n, &finish, err);
    fm__free(text);
    if (status == FM_OK && finish == FM_CLI_CANCELLED) status = fm__fail(err, FM_E_CANCELLED, "interrupted");
    return status;
}

static fm_status run(struct command *c, struct fm_error *err)
{
    FM_TRY(fm__cli_answer_check(&c->answer, err));
    fm__cli_stats_begin(&c->stats);
    fm_status status;
    if (fm__cli_input_given(&c->input)) {
        status = one_answer(c, err);
    } else {
        status = open_all(c, err);
        if (status == FM_OK) status = converse(c, err);
    }
    fm_status trace = fm__cli_trace_end(&c->trace, status == FM_OK || status == FM_E_CANCELLED, status ? NULL : err);
    close_all(c);
    return status ? status : trace;
}

int fm_cmd_chat(int argc, char **argv)
{
    struct command c = {.answer = {.n_predict = FM_CLI_NO_END, .keep = 4}};
    struct fm_cli_opt model_opts[FM_CLI_MODEL_OPTS], run_opts[FM_CLI_RUN_OPTS], input_opts[FM_CLI_INPUT_OPTS],
        sampling_opts[FM_CLI_SAMPLING_OPTS], answer_opts[FM_CLI_ANSWER_OPTS], output_opts[FM_CLI_TRACE_OPTS];
    fm__cli_engine_defaults(&c.args);
    fm__cli_input_init(&c.input);
    fm__cli_sampling_defaults(&c.sampling);
    struct fm_cli_opt opts[] = {
        {.names = "-sys,--system-prompt",
         .type = FM_CLI_STR,
         .arg = "TEXT",
         .out = &c.system,
         .help = "system prompt [none of ours; a template may have its own]"},
        {.names = "--chat-template-file",
         .type = FM_CLI_STR,
         .arg = "FILE",
         .out = &c.template_file,
         .help = "Jinja template to use instead of the model's"},
        {.names = "-cnv,--conversation,--jinja,-st,--single-turn,--no-warmup,--simple-io,-co,--color",
         .type = FM_CLI_FLAG,
         .out = &c.ignored,
         .hidden = true,
         .help = "accepted: so it is, or nothing here changes by it"},
    };
    size_t n_output = fm__cli_trace_opts(&c.trace, output_opts);
    struct fm_cli_spec spec = {
        .name = "chat",
        .summary = "ask a model, or talk with it",
        .args = "[PROMPT]",
        .text = "With a prompt: one answer. Without: a conversation, with /help inside it.",
        .examples = "  fathom chat \"What is the capital of France? Answer with one word.\"\n"
                    "  fathom chat -m smollm2 --temp 0.8 --seed 7\n  fathom chat < questions.txt\n",
        .groups = {{"Prompt", input_opts, fm__cli_input_opts(&c.input, input_opts)},
                   {"Conversation", opts, FM_CLI_N(opts)},
                   {"Length", answer_opts, fm__cli_answer_opts(&c.answer, answer_opts)},
                   {"Sampling", sampling_opts, fm__cli_sampling_opts(&c.sampling, sampling_opts)},
                   {"Model", model_opts, fm__cli_model_opts(&c.args, model_opts)},
                   {"Run", run_opts, fm__cli_run_opts(&c.args, run_opts)},
                   {"Output", output_opts, n_output}},
        .json = &c.json,
        .stats = &c.stats.on,
        .positionals = &c.input.positionals,
    };
    int code;
    if (!fm__cli_parse(&spec, argc, argv, &code)) return code;
    struct fm_error err = {0};
    fm_status status = run(&c, &err);
    if (status == FM_E_CANCELLED) return fm_status_exit_code(status); // what came so far was printed
    return status == FM_OK ? 0 : fm__cli_error("chat", &err, c.json);
}
