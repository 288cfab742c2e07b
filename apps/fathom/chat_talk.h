// SPDX-License-Identifier: MIT
// A conversation: its messages, the session that has them cached, asking for the next answer, and its file.
#ifndef FM_APP_CHAT_TALK_H
#define FM_APP_CHAT_TALK_H

#include "cli_engine.h"
#include "cli_reply.h"
#include "cli_stats.h"
#include "fathom/chat.h"

struct fm_chat_talk {
    struct fm_cli_engine *engine;
    const struct fm_chat_template *tmpl;
    struct fm_session *session;
    struct fm_sampler *sampler;
    struct fm_cli_trace *trace;
    struct fm_cli_stats *stats;
    struct fm_cli_reply_args reply;
    struct fm_chat_message *messages; // contents and roles owned
    size_t n, cap;
};

void fm__chat_talk_free(struct fm_chat_talk *talk);  // the messages only
void fm__chat_talk_reset(struct fm_chat_talk *talk); // all but the system prompt goes
// Sets the system prompt; n 0 removes it.
fm_status fm__chat_talk_system(struct fm_chat_talk *talk, const char *text, size_t n, struct fm_error *err);

// Adds the user's message, makes the answer (through talk->reply.emit) and adds that. Oldest messages are dropped, and
// it is said, where the conversation has outgrown the context. *reply is filled for the caller to look at and end;
// on an error the conversation is as it was before.
fm_status fm__chat_talk_ask(struct fm_chat_talk *talk, const char *text, size_t n, struct fm_cli_reply *reply,
                            struct fm_error *err);

// FILE: the messages as JSON; FILE.kv: the session, so that a long conversation need not be evaluated again.
fm_status fm__chat_talk_save(struct fm_chat_talk *talk, const char *path, struct fm_error *err);
// Replaces the conversation. A missing or foreign FILE.kv only costs time.
fm_status fm__chat_talk_load(struct fm_chat_talk *talk, const char *path, struct fm_error *err);

#endif
