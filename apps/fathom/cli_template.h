// SPDX-License-Identifier: MIT
// From messages to the ids of a prompt, through the model's chat template.
#ifndef FM_APP_CLI_TEMPLATE_H
#define FM_APP_CLI_TEMPLATE_H

#include "cli_engine.h"
#include "fathom/chat.h"

// The model's chat template, or the one of a file (path NULL: the model's).
fm_status fm__cli_template(const struct fm_cli_engine *e, const char *path, struct fm_chat_template **out,
                           struct fm_error *err);
// `talk` has the messages. Messages as the model's prompt for the next answer, tokenised. *ids malloc'ed.
fm_status fm__cli_chat_ids(const struct fm_cli_engine *e, const struct fm_chat_template *tmpl,
                           const struct fm_chat_args *talk, int32_t **ids, int *n_ids, struct fm_error *err);

#endif
