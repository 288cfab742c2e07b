// SPDX-License-Identifier: MIT
// The list of architectures.
#include <stdio.h>
#include <string.h>

#include "base/error.h"
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

fm_status fm__arch_of(const struct fm_gguf *gguf, const struct fm__arch **out, struct fm_error *err)
{
    struct fm_str name;
    char text[64], known[256] = "";
    if (!fm_gguf_get_str(gguf, "general.architecture", &name))
        return fm__fail(err, FM_E_NOT_FOUND, "general.architecture: metadata key is missing");
    snprintf(text, sizeof text, "%.*s", (int)(name.n < 60 ? name.n : 60), name.p);
    *out = fm__arch_find(text);
    if (*out) return FM_OK;
    for (int i = 0; fm__arch_at(i); i++)
        snprintf(known + strlen(known), sizeof known - strlen(known), "%s%s", i ? ", " : "", fm__arch_at(i)->name);
    return fm__fail(err, FM_E_UNSUPPORTED, "architecture \"%s\": not known, want one of %s", text, known);
}

const char *fm_model_arch_name(int i)
{
    const struct fm__arch *arch = fm__arch_at(i);
    return arch ? arch->name : NULL;
}
