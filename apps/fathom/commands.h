// SPDX-License-Identifier: MIT
// The commands of commands.def as functions.
#ifndef FM_APP_COMMANDS_H
#define FM_APP_COMMANDS_H

#define X(name, summary) int fm_cmd_##name(int argc, char **argv);
#include "commands.def"
#undef X

#endif
