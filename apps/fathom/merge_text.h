// SPDX-License-Identifier: MIT
// The text on which `fathom merge` compares where the user gives none: prose, figures, code and a conversation, written
// for this project.
#ifndef FM_APP_MERGE_TEXT_H
#define FM_APP_MERGE_TEXT_H

extern const char fm__merge_text[];

#endif
