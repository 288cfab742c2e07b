#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Makes tests/data/tokenizers: small vocabularies as GGUF metadata, and what other libraries encode with them.

  make_tokenizer_fixtures.py --vocabs FOLDER --corpus TEXT [--out tests/data/tokenizers]

FOLDER holds ggml-vocab-gpt-2.gguf and ggml-vocab-bert-bge.gguf (both MIT), of which the first merges and the most common
words are taken; TEXT is any English text to train the SentencePiece models on. Needs llama-cpp-python (the ids of all but
unigram), sentencepiece (unigram), gguf, and regex (the patterns that Fathom and llama.cpp read differently).

A vector file has one vector a line: flags of fm_tokenizer_encode, the text in hexadecimal ("-" if empty), a colon, ids.
"""
import argparse
import os
import random
import re
import sys

import gguf

from check_tokenizers import PARSE_SPECIAL, Peer, random_text
from check_unigram import to_gguf, train

# One name for each set of patterns in src/text/tok_pre.c.
PRE_LLAMA = ["default", "gpt-2", "smollm", "falcon", "llama-bpe", "jais-2", "qwen2", "qwen35", "minicpm5", "bailingmoe",
             "seed-coder", "exaone-moe", "deepseek-llm", "deepseek-coder", "deepseek-v3", "bloom", "viking", "chameleon"]
TEXTS = ["", " ", "a", "  two  spaces   and\ttabs\n\nlines \r\n  end  ", "I'll don't WE'RE 'S 's x'd 'tis", "12345 3.14 x42y 1 234",
         "étéÉCOLE Straße NaïveCamelCaseHTTPServer", "你好，世界。日本語テスト 한국어 русский Ελλάδα", "עברית العربية हिन्दी ไทย",
         "👨‍👩‍👧 🇩🇪 😀!!! --- ... (x) [y] {z} <a><b><c><d>", "\u00a0nbsp\u3000ideographic\u2009thin\u0085nel\u180e\u200b",
         "½²Ⅷ٣٤ e\u0301a\u0308 \u0130\u017f ǅ", "the quick brown fox jumps over the lazy dog, again and again",
         "<|im_start|>user\nhi<|im_end|>\n", "<think>hm</think>  <think> <|endoftext|>", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
         "▁ Ġ Ċ <0x41> ▁▁x", "\x00\x01\x1f\x7f", "        if (x == 1) {\n\t\treturn \"y\";\n\t}\n", "😀😀\u2028\u2029x\ufeff"]
BROKEN = [b"\xff\xfeab\xc0\x80", b"\xe2\x82", b"x\xed\xa0\x80y\xe2\x82 z", b"\xf0\x9f\x98 \x80\xbf"]
SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "<a><b>", "<b><c><d>", " <think>"]


def write_gguf(path, arch, model, tokens, types, scores=None, merges=None, keys=()):
    writer = gguf.GGUFWriter(path, arch)
    writer.add_name("fixture")
    writer.add_tokenizer_model(model)
    if model == "gpt2":
        writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    if scores:
        writer.add_token_scores(scores)
    if merges:
        writer.add_token_merges(merges)
    for key, value in keys:
        (writer.add_bool if isinstance(value, bool) else writer.add_uint32)("tokenizer.ggml." + key, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()


def strings(path, key):
    field = gguf.GGUFReader(path).fields[key]
    return [bytes(field.parts[i]).decode() for i in field.data]


def make_bpe(vocabs, path):
    source = os.path.join(vocabs, "ggml-vocab-gpt-2.gguf")
    merges = strings(source, "tokenizer.ggml.merges")[:700]
    tokens = strings(source, "tokenizer.ggml.tokens")[:256] + [m.replace(" ", "") for m in merges] + SPECIALS
    types = [1] * (len(tokens) - len(SPECIALS)) + [3] * 3 + [4] * 4
    first = len(tokens) - len(SPECIALS)
    write_gguf(path, "gpt2", "gpt2", tokens, types, merges=merges,
               keys=[("bos_token_id", first), ("eos_token_id", first + 2), ("add_bos_token", True), ("add_eos_token", True)])
    return tokens, merges


def make_wordpiece(vocabs, path):
    tokens = strings(os.path.join(vocabs, "ggml-vocab-bert-bge.gguf"), "tokenizer.ggml.tokens")
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    plain = [t for t in tokens if not t.startswith("[")]
    short = [t for t in plain if len(t.replace("▁", "")) <= 1]
    kept = names + short + [t for t in plain if t not in set(short) and len(t) > 2][:600]
    write_gguf(path, "bert", "bert", kept, [3] * 5 + [1] * (len(kept) - 5),
               keys=[("padding_token_id", 0), ("unknown_token_id", 1), ("bos_token_id", 2), ("cls_token_id", 2),
                     ("seperator_token_id", 3), ("mask_token_id", 4)])


def write_vectors(path, texts, flag_sets, encode):
    with open(path, "w", encoding="ascii") as f:
        for flags in flag_sets:
            for text in texts:
                f.write(f"{flags} {text.hex() or '-'}:{''.join(f' {i}' for i in encode(text, flags))}\n")


def sample(tokens, n, specials):
    rng = random.Random(4)
    words = [t.replace("▁", " ").replace("Ġ", " ") for t in tokens if t.isascii() or "▁" in t or "Ġ" in t]
    return [t.encode() for t in TEXTS] + [random_text(rng, words, specials) for _ in range(n)]


# --- patterns that llama.cpp approximates: the models' own, by the regex module, merged here ---
CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
CASED = {name: rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+{tail}|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*{tail}|\p{{N}}{digits}"
               r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
         for name, tail, digits in (("tekken", "", ""), ("gpt-4o", CONTRACTIONS, "{1,3}"))}


def byte_alphabet():
    visible = [*range(0x21, 0x7f), *range(0xa1, 0xad), *range(0xae, 0x100)]
    rest = [b for b in range(256) if b not in visible]
    return {b: chr(b) for b in visible} | {b: chr(256 + i) for i, b in enumerate(rest)}


def own_bpe(pattern, tokens, merges, whole_tokens):
    import regex
    alphabet, ids = byte_alphabet(), {t: i for i, t in enumerate(tokens)}
    ranks = {tuple(m.split(" ")): i for i, m in enumerate(merges)}

    def encode(text, _flags):
        out = []
        for piece in regex.findall(pattern, text.decode()):
            word = [alphabet[b] for b in piece.encode()]
            if whole_tokens and "".join(word) in ids:
                word = ["".join(word)]
            while len(word) > 1:
                rank, i = min((ranks.get((a, b), 1 << 30), i) for i, (a, b) in enumerate(zip(word, word[1:])))
                if rank == 1 << 30:
                    break
                word[i:i + 2] = [word[i] + word[i + 1]]
            out += [ids[w] for w in word]
        return out

    return encode


def with_pre(path, pre, tmp):
    """A copy of a GGUF with another tokenizer.ggml.pre of any length."""
    with open(path, "rb") as f:
        data = f.read()
    old, new = b"gpt-2", pre.encode()
    at = data.index(b"tokenizer.ggml.pre") + len(b"tokenizer.ggml.pre") + 4
    assert data[at + 8:at + 13] == old
    with open(tmp, "wb") as f:
        f.write(data[:at] + len(new).to_bytes(8, "little") + new + data[at + 13:])
    return tmp


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vocabs", required=True)
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--out", default="tests/data/tokenizers")
    args = parser.parse_args()
    os.makedirs(args.out, exist_ok=True)
    out = lambda name: os.path.join(args.out, name)
    tmp = out("tmp.gguf")

    tokens, merges = make_bpe(args.vocabs, out("bpe.gguf"))
    peer = Peer(out("bpe.gguf"))
    write_vectors(out("bpe.txt"), sample(tokens, 12, SPECIALS) + BROKEN, range(4), peer.encode)
    pre_texts = [t for t in sample(tokens, 6, []) if not re.search(rb"<think|<\||<a>|<b>", t)]
    for pre in PRE_LLAMA:
        peer = Peer(with_pre(out("bpe.gguf"), pre, tmp))
        write_vectors(out(f"pre_{pre}.txt"), pre_texts, [0], peer.encode)
    for pre, pattern in CASED.items():
        write_vectors(out(f"pre_{pre}.txt"), pre_texts, [0], own_bpe(pattern, tokens, merges, pre == "tekken"))

    make_wordpiece(args.vocabs, out("wordpiece.gguf"))
    peer = Peer(out("wordpiece.gguf"))
    texts = sample(strings(out("wordpiece.gguf"), "tokenizer.ggml.tokens"), 12, ["[MASK]", "[SEP]"])
    write_vectors(out("wordpiece.txt"), texts + BROKEN, range(4), peer.encode)

    common = dict(vocab_size=620, prefix=out("tmp"))
    spm = train(args.corpus, dict(model_type="bpe", byte_fallback=True, normalization_rule_name="identity",
                                  remove_extra_whitespaces=False, control_symbols=["<|user|>", "<|end|>", "<|endoftext|>"],
                                  user_defined_symbols=["<sep>", "<a><b>", "<b><c><d>"]), **common)
    to_gguf(spm, out("spm.gguf"))
    words = strings(out("spm.gguf"), "tokenizer.ggml.tokens")
    texts = sample(words, 12, ["<|user|>", "<|end|>\n ", "<sep>", "<a><b>"]) + BROKEN
    write_vectors(out("spm.txt"), texts, range(4), Peer(out("spm.gguf")).encode)
    to_gguf(spm, tmp, name="phi-3-fixture")  # special tokens swallow the white space behind them
    write_vectors(out("spm_phi-3.txt"), texts, [PARSE_SPECIAL], Peer(tmp).encode)

    rules = out("tmp.tsv")
    with open(rules, "w", encoding="ascii") as f:  # full width, ligatures, some compositions; lower case of A and B
        pairs = [(chr(0xff01 + i), chr(0x21 + i)) for i in range(94)] + [("\ufb01", "fi"), ("e\u0301", "\xe9"), ("A", "a"),
                 ("B", "b"), ("\u3000", " "), ("\t", " "), ("\u2167", "VIII"), ("\u00ad", "")]
        f.write("".join(" ".join(f"{ord(c):X}" for c in a) + "\t" + " ".join(f"{ord(c):X}" for c in b) + "\n" for a, b in pairs))
    for name, options in (("unigram", dict(normalization_rule_tsv=rules, user_defined_symbols=["<sep>", "<a><b>"])),
                          ("unigram_bytes", dict(normalization_rule_name="identity", byte_fallback=True,
                                                 remove_extra_whitespaces=False, add_dummy_prefix=False))):
        sp = to_gguf(train(args.corpus, dict(model_type="unigram", **options), **common), out(name + ".gguf"))
        texts = sample(strings(out(name + ".gguf"), "tokenizer.ggml.tokens"), 12, ["<sep>", "<a><b>"]) + BROKEN
        write_vectors(out(name + ".txt"), texts, [0], lambda text, _flags, sp=sp: sp.encode(text))
    for name in ("tmp.gguf", "tmp.model", "tmp.vocab", "tmp.tsv"):
        os.remove(out(name))


if __name__ == "__main__":
    sys.exit(main())
