// SPDX-License-Identifier: MIT
// Chat templates: from a list of messages to the text a model was trained on.
//
// A template is Jinja, as it stands in a model's metadata ("tokenizer.chat_template"); it is parsed once and applied
// any number of times. It sees what the Hugging Face tokenizers give it: messages, tools, documents,
// add_generation_prompt, bos_token, eos_token, the functions raise_exception, strftime_now, range, namespace and dict,
// and the filters, tests and methods of Python's jinja2 in its sandbox (trim_blocks and lstrip_blocks on, loop
// controls, `generation` tag). There is no built-in prompt format: for a model without a template fm_chat_template_new
// returns FM_E_NOT_FOUND, and the caller either asks for a template file or feeds the text as it is ("none").
//
// A template is untrusted: steps, memory, output and nesting are bounded, and every refusal names the template's line.
// Known differences from jinja2: integers are 64 bit; tojson also takes the
// lazy results of map and select; the filters filesizeformat, pprint, random, striptags, urlize, wordwrap and xmlattr,
// and the tags that need other templates (include, import, extends, block), are not there.
#ifndef FATHOM_CHAT_H
#define FATHOM_CHAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fathom/status.h"

#ifdef __cplusplus
extern "C" {
#endif

// A parsed template: immutable, shareable between threads.
struct fm_chat_template;

// Parses `n` bytes of UTF-8 at `text`, which need not outlive the call. text NULL or n 0: FM_E_NOT_FOUND ("the model
// has no chat template"). Errors: FM_E_FORMAT with the line of what is wrong, FM_E_LIMIT (over 256 KiB, nested too
// deeply), FM_E_NOMEM.
FM_API fm_status fm_chat_template_new(const char *text, size_t n, struct fm_chat_template **out, struct fm_error *err);
FM_API void fm_chat_template_free(struct fm_chat_template *tmpl); // NULL is fine

// Bytes of UTF-8; n_content is the length of content, role ends with a zero.
struct fm_chat_message {
    const char *role;
    const char *content;
    size_t n_content;
};

// Zero or NULL means the default written beside each field.
struct fm_chat_limits {
    int64_t max_steps; // operations, and bytes worked on / 32: 20 million
    size_t max_output; // bytes of result: 16 MiB
    size_t max_memory; // bytes of values alive and dead, freed at the end: 256 MiB
};

struct fm_chat_args {
    // The conversation, either as structs or as the text of a JSON array (with tool calls, content parts …):
    // messages_json wins when it is not NULL.
    const struct fm_chat_message *messages;
    size_t n_messages;
    const char *messages_json;
    // Text of a JSON object whose members become variables of the template and replace those set here: "tools",
    // "documents", "enable_thinking", "date_string", even "messages". NULL: none.
    const char *variables_json;
    const char *bos_token;      // NULL: ""
    const char *eos_token;      // NULL: ""
    bool add_generation_prompt; // ask for the opening of the assistant's turn
    int64_t unix_time;          // what strftime_now says, in local time; 0: the clock
    struct fm_chat_limits limits;
};

// Applies the template. *out: zero-terminated UTF-8 owned by the caller, freed with fm_chat_text_free; *n its length.
// Errors: FM_E_ARG (the template called raise_exception: it refuses these messages; or an argument is missing),
// FM_E_FORMAT (an error inside the template, JSON or UTF-8 that is malformed), FM_E_LIMIT (a bound reached),
// FM_E_NOMEM. Thread safe: calls with the same template may run at the same time.
//
//     struct fm_chat_message turn = {"user", "Hello", 5};
//     struct fm_chat_args args = {.messages = &turn, .n_messages = 1, .add_generation_prompt = true};
//     char *text;
//     size_t n;
//     if (fm_chat_apply(tmpl, &args, &text, &n, &err) == FM_OK) fm_chat_text_free(text);
FM_API fm_status fm_chat_apply(const struct fm_chat_template *tmpl, const struct fm_chat_args *args, char **out,
                               size_t *n, struct fm_error *err);
FM_API void fm_chat_text_free(char *text); // NULL is fine

#ifdef __cplusplus
}
#endif
#endif
