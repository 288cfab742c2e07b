// SPDX-License-Identifier: MIT
// The list of architectures.
#include <string.h>

#include "model/arch.h"

static const struct fm__arch *const archs[] = {
#define X(symbol) &fm__arch_##symbol,
#include "model/archs.def"
#undef X
};

const struct fm__arch *fm__arch_at(int i)
{
    return i >= 0 && i < (int)(sizeof archs / sizeof *archs) ? archs[i] : NULL;
}

const struct fm__arch *fm__arch_find(const char *name)
{
    for (int i = 0; fm__arch_at(i); i++)
        if (!strcmp(fm__arch_at(i)->name, name)) return fm__arch_at(i);
    return NULL;
}

const char *fm_model_arch_name(int i)
{
    const struct fm__arch *arch = fm__arch_at(i);
    return arch ? arch->name : NULL;
}
