#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Turns multiple-choice and question sets into what `fathom eval` reads.

usage: convert_eval_sets.py NAME SOURCE > OUT.jsonl

NAME                     SOURCE                                              made for
arc, piqa, siqa, obqa    test.json of commonsense-mc's folder of that name   --task choice: "Question: …\\nAnswer:", " one of them"
boolq                    likewise                                            choice: no and yes (the set has no passages)
winogrande               likewise                                            choice: the sentence's beginning, then each way to go on
gsm8k                    a JSONL file with question and answer               --task generate --match number --stop Question:

The commonsense sets come wrapped as instructions; the question and its answers are parsed back out. A row that does not
parse is an error: nothing is left out silently. LAMBADA's lambada_test.jsonl needs no conversion."""
import argparse
import json
import re
import sys


def parse(row, word):
    """Question, answers and the right one's place of a wrapped row."""
    text = row["instruction"]
    head, _, rest = text.partition("%s1: " % word)
    question = re.sub(r"^Please choose the correct (?:answer|solution) to (?:the question|fill in the blank to complete the given sentence): ",
                      "", head).strip()
    rest, found, _ = rest.rpartition("Answer format:")
    answers = [a.strip() for a in re.split(r"\s*%s[2-9]: " % word, rest)]
    place = int(row["answer"][len(word):]) - 1
    if not found or len(question) == len(head.strip()) or not 0 <= place < len(answers) or not all(answers):
        sys.exit("a row that is not as expected: %r" % row)
    return question, answers, place


def question_answer(row, word="Answer"):
    question, answers, place = parse(row, word)
    return {"context": "Question: %s\nAnswer:" % question, "choices": answers, "answer": place}


def openbook(row):
    question, answers, place = parse(row, "Answer")
    return {"context": question, "choices": answers, "answer": place}


def boolq(row):
    match = re.match(r"Please answer the following question with true or false, question: (.*?)\s*\n\nAnswer format: true/false$",
                     row["instruction"], re.S)
    if not match or row["answer"] not in ("true", "false"):
        sys.exit("a row that is not as expected: %r" % row)
    return {"context": "Question: %s\nAnswer:" % match.group(1), "choices": ["no", "yes"], "answer": int(row["answer"] == "true")}


def winogrande(row):
    question, answers, place = parse(row, "Option")
    before, blank, after = question.partition("_")
    if not blank:
        sys.exit("no blank: %r" % row)
    return {"context": before.rstrip(" "), "choices": [a + after for a in answers], "answer": place}


def gsm8k(row):
    return {"prompt": "Question: %s\nAnswer:" % row["question"], "answer": row["answer"].rpartition("####")[2].strip()}


SETS = {"arc": question_answer, "siqa": question_answer, "piqa": lambda row: question_answer(row, "Solution"), "obqa": openbook,
        "boolq": boolq, "winogrande": winogrande, "gsm8k": gsm8k}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=sorted(SETS))
    parser.add_argument("source")
    args = parser.parse_args()
    with open(args.source, encoding="utf-8") as f:
        rows = [json.loads(line) for line in f] if args.source.endswith(".jsonl") else json.load(f)
    for row in rows:
        print(json.dumps(SETS[args.name](row), ensure_ascii=False))


if __name__ == "__main__":
    main()
