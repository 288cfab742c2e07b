// SPDX-License-Identifier: MIT
// A short hash of everything that decides what numbers come out: perplexity and bench both print it, so that a speed
// and a quality are known to belong to the same configuration. Threads, batch sizes and context lengths are not in it:
// they never change a result.
#ifndef FM_APP_CLI_SETTINGS_H
#define FM_APP_CLI_SETTINGS_H

#include "cli_engine.h"

enum { FM_CLI_SETTINGS_HEX = 13 };

// Model (fingerprint of weights and recipe), cache format, kernel level, position scaling, overrides. 12 hex digits.
void fm__cli_settings_hash(const struct fm_cli_engine *e, const struct fm_cli_engine_args *args,
                           char hex[FM_CLI_SETTINGS_HEX]);

// The cache format in use, by the batcher's own word.
const char *fm__cli_kv_in_use(const struct fm_cli_engine *e);

#endif
