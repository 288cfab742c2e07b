// SPDX-License-Identifier: MIT
// Small functions that several elementwise ops share.
#ifndef FM_OPS_ELEMENTWISE_H
#define FM_OPS_ELEMENTWISE_H

#include "ops/attrs.h"

float fm__act(int act, float x);            // one of FM__ACT_*
float fm__act_derivative(int act, float x); // d act(x) / dx
const char *fm__act_name(int act);

#endif
