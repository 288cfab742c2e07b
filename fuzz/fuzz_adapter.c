// SPDX-License-Identifier: MIT
// Any bytes as an adapter of a small llama: an even first byte is followed by a GGUF file, an odd one by the length of
// adapter_config.json (u16), that text, and adapter_model.safetensors. What is read fits the base.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../tests/support/gguf_bytes.h"
#include "fathom/adapter.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t n_tensors;

static void add_tensor(struct gguf_bytes *g, const char *name, uint64_t rows, uint64_t columns)
{
    gguf_put_str(g, name, strlen(name));
    gguf_put_u32(g, columns ? 2 : 1);
    if (columns) gguf_put(g, &columns, 8);
    gguf_put(g, &rows, 8);
    gguf_put_u32(g, 0);                        // F32
    const uint64_t offset = 128 * n_tensors++; // the largest has 8 x 4 floats
    gguf_put(g, &offset, 8);
}

// Vocabulary 8, D 4, two heads of 2, F 6. Only the table: nothing here reads the base's weights.
static const struct fm_gguf *base(void)
{
    static struct gguf_bytes g;
    static struct fm_gguf *opened;
    if (opened) return opened;
    gguf_add_str(&g, "general.architecture", "llama");
    gguf_add_u32(&g, "llama.block_count", 1);
    gguf_add_u32(&g, "llama.embedding_length", 4);
    gguf_add_u32(&g, "llama.attention.head_count", 2);
    gguf_add_u32(&g, "llama.context_length", 16);
    gguf_add_u32(&g, "llama.feed_forward_length", 6);
    add_tensor(&g, "token_embd.weight", 8, 4);
    add_tensor(&g, "output.weight", 8, 4);
    add_tensor(&g, "blk.0.attn_q.weight", 4, 4);
    add_tensor(&g, "blk.0.ffn_up.weight", 6, 4);
    add_tensor(&g, "blk.0.attn_norm.weight", 4, 0);
    memcpy(g.p + 8, &n_tensors, 8);
    memcpy(g.p + 16, &g.n_kv, 8);
    if (fm_gguf_open_memory(g.p, g.n, &(struct fm_gguf_open_opts){.vocab_only = true}, &opened, NULL) != FM_OK) abort();
    return opened;
}

static fm_status read_parts(const uint8_t *data, size_t size, struct fm_adapter **out, struct fm_error *err)
{
    uint16_t n = 0;
    if (size >= 2) memcpy(&n, data, 2);
    const size_t skip = size < 2 ? size : 2, n_config = n < size - skip ? n : size - skip;
    const struct fm_adapter_peft parts = {(const char *)data + skip, n_config, data + skip + n_config,
                                          size - skip - n_config};
    return fm_adapter_from_peft(&parts, base(), out, err);
}

static fm_status read_gguf(const uint8_t *data, size_t size, struct fm_adapter **out, struct fm_error *err)
{
    struct fm_gguf *file;
    *out = NULL;
    fm_status status = fm_gguf_open_memory(data, size, NULL, &file, err);
    if (status != FM_OK) return status;
    status = fm_adapter_from_gguf(file, base(), out, err);
    fm_gguf_close(file);
    return status;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fm_error err = {0};
    struct fm_adapter *adapter;
    char hash[FM_ADAPTER_HASH];
    if (!size) return 0;
    const fm_status status = (data[0] % 2 ? read_parts : read_gguf)(data + 1, size - 1, &adapter, &err);
    if (status != FM_OK) {
        if (adapter || !err.text[0] || strchr(err.text, '\n')) abort();
        return 0;
    }
    if (!adapter->base_hash[0] && fm_adapter_check(adapter, base(), NULL) != FM_OK) abort();
    if (fm_adapter_hash(adapter, hash, NULL) != FM_OK || strlen(hash) != FM_ADAPTER_HASH - 1) abort();
    fm_adapter_free(adapter);
    return 0;
}
