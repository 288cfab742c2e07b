#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Compares Fathom's SentencePiece styles with the sentencepiece library itself.

  check_unigram.py --tool build/release/tok_tool --corpus TEXT [-n 10000] [--seed 1] [--keep FOLDER]
  check_unigram.py --tool build/release/tok_tool --model tokenizer.model     # an existing BPE model

Trains small unigram and BPE models on TEXT (one per normalisation and option below), writes each as GGUF metadata and
encodes the same random strings with both. Needs the Python packages sentencepiece and gguf. Exit code 1 at a difference.
"""
import argparse
import os
import random
import sys
import tempfile

from check_tokenizers import PIECES, encode, random_text, report

USER = ["<sep>", "<a>", "<a><b>", "New York"]
VARIANTS = {
    "unigram_nfkc": dict(model_type="unigram", normalization_rule_name="nmt_nfkc"),
    "unigram_fold": dict(model_type="unigram", normalization_rule_name="nmt_nfkc_cf", user_defined_symbols=USER),
    "unigram_bytes": dict(model_type="unigram", normalization_rule_name="identity", byte_fallback=True),
    "unigram_raw": dict(model_type="unigram", normalization_rule_name="nfkc", remove_extra_whitespaces=False,
                        add_dummy_prefix=False),
    "bpe_bytes": dict(model_type="bpe", normalization_rule_name="identity", byte_fallback=True,
                      remove_extra_whitespaces=False),
}


def proto_fields(data):
    """(field number, value) of a protobuf message; sub-messages and strings as bytes."""
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7f) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(data):
        tag = varint()
        if tag & 7 == 0:
            yield tag >> 3, varint()
        else:
            n = {1: 8, 5: 4}.get(tag & 7)
            n = varint() if n is None else n
            yield tag >> 3, data[at:at + n]
            at += n


def train(corpus, variant, vocab_size, prefix):
    import sentencepiece
    sentencepiece.SentencePieceTrainer.train(input=corpus, model_prefix=prefix, vocab_size=vocab_size, num_threads=2,
                                             minloglevel=2, pad_id=3, character_coverage=0.9999, **variant)
    return prefix + ".model"


def to_gguf(model, path, name="fixture"):
    """Writes a sentencepiece model as tokenizer.ggml metadata; returns the processor."""
    import gguf
    import sentencepiece
    sp = sentencepiece.SentencePieceProcessor(model_file=model)
    with open(model, "rb") as f:
        proto = list(proto_fields(f.read()))
    trainer = dict(proto_fields(next(v for k, v in proto if k == 2)))
    normalizer = dict(proto_fields(next(v for k, v in proto if k == 3)))
    unigram = trainer.get(3, 1) == 1
    writer = gguf.GGUFWriter(path, "t5" if unigram else "llama")
    writer.add_name(name)
    writer.add_tokenizer_model("t5" if unigram else "llama")
    pieces = [dict(proto_fields(v)) for k, v in proto if k == 1]
    writer.add_token_list([p[1] for p in pieces])
    writer.add_token_scores([sp.get_score(i) for i in range(len(pieces))])
    writer.add_token_types([p.get(3, 1) for p in pieces])  # the numbers of the proto are those of GGUF
    writer.add_add_space_prefix(bool(normalizer.get(3, 1)))
    writer.add_remove_extra_whitespaces(bool(normalizer.get(4, 1)))
    if normalizer.get(2):
        writer.add_precompiled_charsmap(bytes(normalizer[2]))
    writer.add_unk_token_id(sp.unk_id())
    writer.add_bos_token_id(sp.bos_id())
    writer.add_eos_token_id(sp.eos_id())
    writer.add_add_bos_token(False)
    writer.add_add_eos_token(False)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return sp


def compare(tool, path, sp, n, seed, unigram=True):
    rng = random.Random(f"{seed} {os.path.basename(path)}")
    words = [w.replace("▁", " ") for w in (sp.id_to_piece(i) for i in range(sp.get_piece_size())) if w] + ["New York"]
    texts = [b"", b" ", b"   ", "▁".encode()]
    if unigram:  # in BPE wrong bytes stay as they are, as in llama.cpp; sentencepiece has U+FFFD
        texts += [b"\xff\xfeabc\xc0\x80", b"\xed\xa0\x80\xf4\x90\x80\x80\xe2\x82", b"a\xe2\x82\x20b"]
    while len(texts) < n:
        # sentencepiece takes a literal U+2581 at the end of a text for a space; so do we
        texts.append(random_text(rng, words, USER if len(texts) % 4 == 0 else []))
    texts += [" ".join(rng.choice(words + PIECES) for _ in range(4000)).encode() for _ in range(5)]
    differences = 0
    for text, ours in zip(texts, encode(tool, path, texts, 0)):
        theirs = sp.encode(text)
        if ours != theirs:
            differences += 1
            if differences < 5:
                report(path, "encoding", text[:400], ours, theirs)
    print(f"{os.path.basename(path)}: {sp.get_piece_size()} tokens, {len(texts)} texts, {differences} differences", flush=True)
    return differences


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tool", default="build/release/tok_tool")
    parser.add_argument("--corpus")
    parser.add_argument("--model")
    parser.add_argument("--vocab-size", type=int, default=2000)
    parser.add_argument("-n", type=int, default=10000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", metavar="FOLDER")
    args = parser.parse_args()
    differences = 0
    with tempfile.TemporaryDirectory() as tmp:
        folder = args.keep or tmp
        if args.model:
            path = os.path.join(folder, "model.gguf")
            differences += compare(args.tool, path, to_gguf(args.model, path), args.n, args.seed, False)
        if args.corpus:
            corpus = os.path.join(folder, "corpus.txt")
            with open(args.corpus, encoding="utf8") as f, open(corpus, "w", encoding="utf8") as out:
                out.write(f.read() + "\n" + "\n".join(PIECES * 20) + "\n")
            for name, variant in VARIANTS.items():
                model = train(corpus, variant, args.vocab_size, os.path.join(folder, name))
                path = os.path.join(folder, name + ".gguf")
                differences += compare(args.tool, path, to_gguf(model, path), args.n, args.seed,
                                       name.startswith("unigram"))
    print(f"{differences} differences in all")
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
