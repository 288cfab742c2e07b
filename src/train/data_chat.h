// SPDX-License-Identifier: MIT
// Conversations as tokens, for the readers of chats and of preference pairs.
#ifndef FM_TRAIN_DATA_CHAT_H
#define FM_TRAIN_DATA_CHAT_H

#include <jansson.h>

#include "train/data_internal.h"

// A conversation, as the template gets it.
struct fm__talk {
    json_t *messages;  // array of checked messages
    json_t *variables; // "tools" … of the row, or NULL
    size_t from;       // messages before it never have a loss
};

// The conversation in row[name] ("messages": also "conversations", as ShareGPT has it). fm__chat_talk_deinit when
// FM_OK.
fm_status fm__chat_talk(struct fm__builder *b, const json_t *row, const char *name, struct fm__talk *talk,
                        struct fm_error *err);
void fm__chat_talk_deinit(struct fm__talk *talk);
// Renders it into b->ids, with marks at what the assistant says; b->more is used on the way.
fm_status fm__chat_tokens(struct fm__builder *b, const struct fm__talk *talk, struct fm_error *err);
// Cuts a document to the length, or refuses it; what is kept must hold a marked token of `what`.
fm_status fm__chat_fit(struct fm__builder *b, struct fm__ids *ids, const char *what, struct fm_error *err);

#endif
