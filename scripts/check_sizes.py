#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What the style rules say in numbers: files ≤ 1000 lines (.def tables exempt), functions ≤ 100 lines (kernels, that is
src/device/cpu, 150), at most 6 parameters, a README of ≤ 40 lines, the SPDX line first and a purpose after it (in the header of a pair), no
allocation, printing or exit behind the library's back. Exit 1 with a line per breach.

The layout is clang-format's (functions open and close in column 0), so that no parser is needed.
--self-test breaks the rules in a temporary tree and checks that each breach is seen."""
import os
import re
import subprocess
import sys
import tempfile

FILE_LINES, FUNCTION_LINES, KERNEL_LINES, PARAMETERS, README_LINES = 1000, 100, 150, 6, 40
# Of the library: memory only through base/alloc.h, and it never prints or exits.
FORBIDDEN = re.compile(r"(?<![\w.>])(malloc|calloc|realloc|strdup|strndup|aligned_alloc|posix_memalign|free|exit|abort|printf|puts|perror)\s*\(")
FORBIDDEN_EXEMPT = {"src/base/alloc.c"}
HEAD = re.compile(r"^[A-Za-z_][\w\s\*]*?\b(\w+)\s*\(")
SECRETS = re.compile(r"pypi\.org|pythonhosted|registry\.npmjs|crates\.io|/work/(?:main|wt|scratch|shared)")
TODO = re.compile(r"\b(TODO|FIXME|XXX)\b(?!.*\d{4}-\d\d-\d\d)")


def strip(text):
    """Comments and the insides of strings blanked, line breaks kept."""
    blank = lambda m: re.sub(r"[^\n]", " ", m.group(0))
    return re.sub(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', blank, text, flags=re.S)


def count_parameters(head):
    """Of `type name(a, b, …)`: commas at depth 1 of the last parameter list's parentheses."""
    start = head.index("(", HEAD.match(head).start(1))
    depth, commas, inside = 0, 0, ""
    for c in head[start:]:
        if c in "([{":
            depth += 1
        elif c in ")]}":
            depth -= 1
            if depth == 0:
                break
        elif c == "," and depth == 1:
            commas += 1
        if depth >= 1:
            inside += c
    inside = inside[1:].strip()
    return 0 if inside in ("", "void") else commas + 1


def functions(lines):
    """(first line, name, lines, parameters) of every function defined in the blanked lines."""
    i = 0
    while i < len(lines):
        if lines[i] != "{":
            i += 1
            continue
        first = i - 1
        while first > 0 and lines[first - 1].strip() and not lines[first - 1].rstrip().endswith((";", "}")) \
                and not lines[first - 1].startswith("#"):
            first -= 1
        end = i
        while end < len(lines) and lines[end] != "}":
            end += 1
        head = " ".join(lines[first:i])
        match = HEAD.match(head)
        if match:
            yield first + 1, match.group(1), end - first + 1, count_parameters(head)
        i = end + 1


def prototypes(text):
    for match in re.finditer(r"^(?:FM_API )?[A-Za-z_][\w \*]*?\b(\w+)\([^;{}]*\)[^;{}()]*;", text, flags=re.M):
        head = match.group(0).replace("FM_API ", "")
        if HEAD.match(head) and not head.startswith(("return", "typedef")):
            yield text.count("\n", 0, match.start()) + 1, match.group(1), count_parameters(head)


def check_c(rel, text, found, has_header=False):
    lines = text.splitlines()
    table = rel.endswith((".def", ".inc"))
    if len(lines) > FILE_LINES and not table:
        found.append(f"{rel}:1: {len(lines)} lines, want at most {FILE_LINES}")
    if not lines or "SPDX-License-Identifier: MIT" not in lines[0]:
        found.append(f"{rel}:1: the first line is not the SPDX line")
    elif rel.startswith(("src/", "include/", "apps/")) and not has_header and (len(lines) < 2 or not lines[1].startswith(("//", "/*"))):
        found.append(f"{rel}:2: no comment that states the file's purpose")
    blanked = strip(text)
    limit = KERNEL_LINES if rel.startswith("src/device/cpu/") else FUNCTION_LINES
    for line, name, n_lines, n_parameters in functions(blanked.splitlines()):
        if n_lines > limit:
            found.append(f"{rel}:{line}: {name} has {n_lines} lines, want at most {limit}")
        if n_parameters > PARAMETERS:
            found.append(f"{rel}:{line}: {name} has {n_parameters} parameters, want at most {PARAMETERS}")
    for line, name, n_parameters in prototypes(blanked) if rel.endswith(".h") else ():
        if n_parameters > PARAMETERS:
            found.append(f"{rel}:{line}: {name} has {n_parameters} parameters, want at most {PARAMETERS}")
    if rel.startswith("src/") and rel not in FORBIDDEN_EXEMPT:
        for number, line in enumerate(blanked.splitlines(), 1):
            match = FORBIDDEN.search(line)
            if match:
                found.append(f"{rel}:{number}: {match.group(1)}() in the library")


def tracked(root):
    listed = subprocess.run(["git", "-C", root, "ls-files", "-co", "--exclude-standard"], capture_output=True, text=True, check=False)
    if listed.returncode == 0:
        return listed.stdout.splitlines()
    return [os.path.relpath(os.path.join(b, n), root) for b, _, names in os.walk(root) for n in names]


def check(root):
    found = []
    for rel in sorted(tracked(root)):
        path = os.path.join(root, rel)
        if rel.startswith(("build/", "tests/data/", "fuzz/corpus/")) or not os.path.isfile(path):
            continue
        try:
            with open(path, encoding="utf-8") as f:
                text = f.read()
        except UnicodeDecodeError:
            continue
        if rel.endswith((".c", ".h", ".def", ".inc")):
            check_c(rel, text, found, rel.endswith(".c") and os.path.isfile(path[:-1] + "h"))  # the header states it
        if rel.startswith(("src/", "apps/", "tests/")) and rel.endswith("README.md") and text.count("\n") > README_LINES:
            found.append(f"{rel}:1: {text.count(chr(10))} lines, want at most {README_LINES}")
        for number, line in enumerate(text.splitlines(), 1):
            if SECRETS.search(line) and rel != "scripts/check_sizes.py":
                found.append(f"{rel}:{number}: names a package registry's host or a path of one machine")
            if rel.endswith((".c", ".h")) and TODO.search(line):
                found.append(f"{rel}:{number}: a TODO without a date")
    return found


def self_test():
    spdx = "// SPDX-License-Identifier: MIT\n"
    body = "static int f(int a)\n{\n" + "    a++;\n" * 120 + "    return a;\n}\n"
    many = "int g(int a, int b, int c, int d, int e, int f, int (*h)(int, int))"
    breaches = {
        "src/base/long.c": spdx + "// x\n" * 1001, "src/base/f.c": spdx + "// x\n" + body, "src/base/g.h": spdx + "// x\n" + many + ";\n",
        "src/base/g.c": spdx + "// x\n" + many + "\n{\n    return 0;\n}\n", "src/base/nospdx.c": "int x;\n",
        "src/base/purpose.c": spdx + "int x;\n", "src/base/m.c": spdx + "// x\nvoid *f(void)\n{\n    return malloc(1);\n}\n",
        "src/base/README.md": "x\n" * 41, "src/base/t.c": spdx + "// x\n// TO" + "DO later\n", "docs/x.md": "get it from py" + "pi.org\n",
    }
    fine = {
        "src/device/cpu/k_avx2.c": spdx + "// kernel\n" + body, "src/base/t.def": spdx + "// x\n" * 1500,
        "src/base/ok.c": spdx + "// malloc(1) in a comment\nint f(int a, int b, int c, int d, int e, int g)\n{\n    return fm__free(p), s->free(q), \"exit(1)\";\n}\n",
    }
    with tempfile.TemporaryDirectory() as root:
        for name, text in {**breaches, **fine}.items():
            os.makedirs(os.path.join(root, os.path.dirname(name)), exist_ok=True)
            with open(os.path.join(root, name), "w", encoding="utf-8") as f:
                f.write(text)
        seen = {line.split(":")[0] for line in check(root)}
    assert seen == set(breaches), f"missed {set(breaches) - seen}, wrongly accused {seen - set(breaches)}"


if __name__ == "__main__":
    if "--self-test" in sys.argv:
        self_test()
        sys.exit(0)
    problems = check(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    print("\n".join(problems) if problems else "sizes: clean")
    sys.exit(1 if problems else 0)
