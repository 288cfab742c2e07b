// SPDX-License-Identifier: MIT
// What the safetensors reader and writer share: the names of its element types.
#ifndef FM_FORMAT_SAFETENSORS_TYPES_H
#define FM_FORMAT_SAFETENSORS_TYPES_H

#include "fathom/tensor.h"

#define FM__SAFETENSORS_METADATA "__metadata__"

const char *fm__safetensors_type_name(fm_dtype dtype); // NULL for a type that the format has not
fm_dtype fm__safetensors_type(const char *name);       // FM_DTYPE_COUNT when there is none

#endif
