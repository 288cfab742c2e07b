// SPDX-License-Identifier: MIT
// Fathom's public C API in one include. docs/tour.md says in what order to read it.
#ifndef FATHOM_FATHOM_H
#define FATHOM_FATHOM_H

#include "fathom/adapter.h"
#include "fathom/chat.h"
#include "fathom/device.h"
#include "fathom/gguf.h"
#include "fathom/model.h"
#include "fathom/safetensors.h"
#include "fathom/sample.h"
#include "fathom/session.h"
#include "fathom/status.h"
#include "fathom/tensor.h"
#include "fathom/tokenizer.h"

#endif
