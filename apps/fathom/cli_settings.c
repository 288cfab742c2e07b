// SPDX-License-Identifier: MIT
// The settings as lines of text, hashed.
#include "cli_settings.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/sha256.h"
#include "infer/batcher.h"
#include "ops/kv_format.h"

const char *fm__cli_kv_in_use(const struct fm_cli_engine *e)
{
    const struct fm__kv_format *format = fm__kv_format(e->batcher->dims.kv_format);
    return format ? format->name : "?";
}

void fm__cli_settings_hash(const struct fm_cli_engine *e, const struct fm_cli_engine_args *args,
                           char hex[FM_CLI_SETTINGS_HEX])
{
    char *text = NULL, full[FM__SHA256_HEX];
    size_t n = 0;
    uint8_t digest[FM__SHA256_BYTES];
    snprintf(hex, FM_CLI_SETTINGS_HEX, "unknown");
    FILE *lines = open_memstream(&text, &n);
    if (!lines) return;
    fprintf(lines, "settings 1\nmodel %016llx\nkv %s\ndevice %s %s\nrope %d %.9g %.9g\n",
            (unsigned long long)fm__model_fingerprint(e->model), fm__cli_kv_in_use(e), e->props.name, e->props.level,
            args->rope_scaling, args->rope_scale, args->rope_freq_base);
    if (args->activations) fprintf(lines, "activations f32\n");
    for (int i = 0; i < e->adapters.n; i++) {
        char adapter[FM_ADAPTER_HASH];
        if (fm_adapter_hash(e->adapters.items[i], adapter, NULL) == FM_OK)
            fprintf(lines, "adapter %s %.9g\n", adapter, (double)e->adapters.scales[i]);
    }
    for (size_t i = 0; i < args->overrides.n; i++) fprintf(lines, "override %s\n", args->override_items[i]);
    if (fclose(lines) == 0 && fm__sha256_bytes(text, n, digest, NULL) == FM_OK) {
        fm__sha256_hex(digest, full);
        snprintf(hex, FM_CLI_SETTINGS_HEX, "%.12s", full);
    }
    free(text);
}
