// SPDX-License-Identifier: MIT
// A template from anyone: parse and apply to a small conversation. Input up to the first zero byte is the template, the
// rest (if any) is the JSON of the variables. Bounds are small, so that an endless template is not taken for a slow
// one.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "fathom/chat.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *zero = size ? memchr(data, 0, size) : NULL;
    size_t n_text = zero ? (size_t)(zero - data) : size, n;
    struct fm_chat_template *tmpl;
    struct fm_error err;
    char *variables = NULL, *out;
    if (fm_chat_template_new((const char *)data, n_text, &tmpl, &err) != FM_OK) return 0;
    if (zero) {
        variables = calloc(1, size - n_text);
        if (variables) memcpy(variables, zero + 1, size - n_text - 1);
    }
    static const struct fm_chat_message messages[] = {{"system", "Be brief.", 9},
                                                      {"user", "Hi <b>\xc3\xa9\xf0\x9f\x98\x80", 12},
                                                      {"assistant", "", 0},
                                                      {"user", "a\nb", 3}};
    struct fm_chat_args args = {.messages = messages,
                                .n_messages = 4,
                                .variables_json = variables,
                                .bos_token = "<s>",
                                .add_generation_prompt = true,
                                .unix_time = 1732539600,
                                .limits = {.max_steps = 200000, .max_output = 1 << 20, .max_memory = 8 << 20}};
    if (fm_chat_apply(tmpl, &args, &out, &n, &err) == FM_OK) {
        if (strlen(out) > n) abort();
        fm_chat_text_free(out);
    }
    free(variables);
    fm_chat_template_free(tmpl);
    return 0;
}
