# SPDX-License-Identifier: MIT
"""Random small templates through jinja2 and through our interpreter: the same text, or an error in both.

usage: check_templates_random.py [--build build/release] [--n 5000] [--seed 1] [--show 20]

Exit status 1 when any differ. Allowed to differ, and not counted: our limits (64-bit integers, sizes), what chat.h lists as
not there, and texts that hold an address or the word generator."""
import argparse
import os
import random
import sys

from template_peer import Ours, environment, render

LIMIT, UNSUPPORTED = -8, -6

VARIABLES = {
    "s": "Hello, World", "t": "  padded \n", "u": "naïve Ünïcode ß 😀", "e": "", "q": "it's \"quoted\" \\ \t",
    "m": "line one\n  line two\n\nline four", "i": 7, "j": -3, "z": 0, "f": 2.5, "g": -0.125, "h": 1e20, "yes": True,
    "no": False, "nil": None, "l": [3, 1, 2], "ls": ["b", "A", "c", "a"], "le": [], "mix": [1, "x", None, 2.0, True, [1], {"k": 1}],
    "d": {"a": 1, "b": "two", "items": "shadow", "n": {"x": [1, 2, {"y": "deep"}]}}, "de": {},
    "msgs": [{"role": "system", "content": "S"}, {"role": "user", "content": "U <1>"},
             {"role": "assistant", "content": None, "tool_calls": [{"name": "f", "arguments": {"a": 1, "b": [1.5, "x"]}}]},
             {"role": "tool", "content": "ok"}, {"role": "user", "content": "U2"}],
}
STRS, INTS, FLOATS, LISTS, DICTS = ["s", "t", "u", "e", "q", "m"], ["i", "j", "z"], ["f", "g"], ["l", "ls", "le", "mix", "msgs"], ["d", "de"]


class Maker:
    def __init__(self, seed):
        self.r = random.Random(seed)
        self.scope = []

    def pick(self, *options):
        return self.r.choice(options)

    def literal(self):
        return self.pick("'a'", "'x y'", '"it\'s"', "'<b>&'", "'ä'", "''", "'1'", "'4.7'", "' 12 '", "'a,b,,c'", "'\\n'", "'\\u00e9\\t'", "'%s-%s'",
                         "0", "1", "2", "-1", "10", "1_000", "0x1f", "1.0", "0.1", "3.14159", "1e3", "100000.0", "1e-7", "1e16",
                         "true", "False", "none", "[]", "{}", "()", "(1,)", "[1, 2]", "['a', 'b']", "(1, 'a')", "{'k': 1, 'j': [2]}", "{1: 'one'}")

    def name(self):
        pool = STRS + INTS + FLOATS + LISTS + DICTS + ["yes", "no", "nil", "missing", "h"] + self.scope * 3
        return self.r.choice(pool)

    def string(self, d):
        k = self.r.randrange(14)
        if d <= 0 or k < 4:
            return self.pick(*STRS) if self.r.random() < .6 else self.pick("'abc'", "'a b'", "''", "'Xy'", "'0'")
        if k == 4:
            return f"({self.string(d-1)} + {self.string(d-1)})"
        if k == 5:
            return f"({self.expr(d-1)} ~ {self.expr(d-1)})"
        if k == 6:
            return f"{self.string(d-1)}|{self.pick('upper', 'lower', 'trim', 'title', 'capitalize', 'string', 'reverse', 'escape', 'e', 'safe', 'indent', 'indent(2, true)', 'indent(first=true, blank=true)', 'urlencode', 'center(9)', 'truncate(9)', 'truncate(8, true, leeway=0)')}"
        if k == 7:
            return f"{self.string(d-1)}.{self.pick('strip()', 'lstrip()', 'rstrip()', 'upper()', 'lower()', 'title()', 'capitalize()', 'swapcase()')}"
        if k == 8:
            return f"{self.string(d-1)}.replace({self.string(d-1)}, {self.string(d-1)})"
        if k == 9:
            return f"{self.expr(d-1)}|tojson{self.pick('', '', '(indent=2)', '(indent=0)', '(sort_keys=true)', '(ensure_ascii=true)')}"
        if k == 10:
            return f"{self.list(d-1)}|join({self.pick('', repr(', '), repr('-'))})"
        if k == 11:
            return f"{self.string(d-1)}[{self.slice(d-1)}]"
        if k == 12:
            return f"{self.string(d-1)}.{self.pick('zfill(5)', 'rjust(6)', 'ljust(6)', 'center(7)', 'removeprefix(s)', 'removesuffix(s)', 'strip(chars)'.replace('chars', repr('ad ')), 'replace(' + repr('a') + ',' + repr('-') + ',1)')}"
        return f"'{self.pick('%s', '%5s|', '%-5s|', '%r')}' % ({self.expr(d-1)},)"

    def number(self, d):
        k = self.r.randrange(10)
        if d <= 0 or k < 3:
            return self.pick("i", "j", "z", "f", "g", "1", "2", "3", "-4", "0.5", "2.0", "10")
        if k < 6:
            return f"({self.number(d-1)} {self.pick('+', '-', '*', '/', '//', '%')} {self.number(d-1)})"
        if k == 6:
            return f"{self.expr(d-1)}|{self.pick('length', 'count', 'int', 'float', 'abs', 'round', 'round(1)', 'wordcount')}"
        if k == 7:
            return f"{self.list(d-1)}|{self.pick('sum', 'max', 'min', 'first', 'last', 'length')}"
        if k == 8:
            return f"({self.number(d-1)}|{self.pick('round(2)', 'abs', 'int', 'float', 'round(1, ' + repr('floor') + ')', 'round(0, ' + repr('ceil') + ')')})"
        return f"{self.string(d-1)}.{self.pick('count', 'find', 'rfind', 'index')}({self.string(d-1)})"

    def list(self, d):
        k = self.r.randrange(14)
        if d <= 0 or k < 4:
            return self.pick(*LISTS, "[1, 2, 3]", "['b', 'a']", "(1, 2)", "range(4)", "range(5, 0, -2)")
        if k == 4:
            return f"[{', '.join(self.expr(d-1) for _ in range(self.r.randrange(4)))}]"
        if k == 5:
            return f"({self.list(d-1)} + {self.list(d-1)})"
        if k == 6:
            return f"{self.list(d-1)}[{self.slice(d-1)}]"
        if k == 7:
            return f"{self.list(d-1)}|{self.pick('list', 'sort', 'sort(reverse=true)', 'unique|list', 'reverse|list', 'sort(case_sensitive=true)', 'batch(2)|list', 'slice(2)|list', 'batch(2, 0)|list')}"
        if k == 8:
            return f"{self.list(d-1)}|map('{self.pick('upper', 'string', 'length', 'int', 'tojson', 'abs')}')|list"
        if k == 9:
            return f"{self.list(d-1)}|{self.pick('select', 'reject')}({self.pick('', repr('string'), repr('number'), repr('odd'), repr('defined'), repr('none'), repr('in') + ', [1, 2]', repr('equalto') + ', 1', repr('>') + ', 1')})|list"
        if k == 10:
            return f"msgs|{self.pick('selectattr', 'rejectattr')}('{self.pick('role', 'content', 'tool_calls')}'{self.pick('', ', ' + repr('defined'), ', ' + repr('equalto') + ', ' + repr('user'), ', ' + repr('none'))})|list"
        if k == 11:
            return f"msgs|map(attribute='{self.pick('role', 'content', 'tool_calls.0.name', 'x')}'{self.pick('', ', default=1')})|list"
        if k == 12:
            return f"{self.string(d-1)}.{self.pick('split()', 'split(' + repr(',') + ')', 'split(' + repr('l') + ', 1)', 'rsplit(' + repr('l') + ', 1)', 'splitlines()', 'partition(' + repr('l') + ')', 'split(None, 1)')}"
        return self.pick("d|items|list", "d.items()|list", "d.keys()|list", "d.values()|list", "d|dictsort", "d|list", "msgs|groupby('role')", "msgs|groupby('role')|map(attribute='grouper')|list", "dict(a=1, b=2).items()|list", "u|list")

    def slice(self, d):
        part = lambda: self.pick("", "", "0", "1", "-1", "2", "-2", "i", "100", "-100", "nil")
        return self.pick(f"{part()}:{part()}", f"{part()}:{part()}", f"{part()}:{part()}:{self.pick('', '1', '-1', '2', '-2')}", "0", "-1", "i")

    def test(self, d):
        k = self.r.randrange(9)
        if k == 0:
            return f"{self.expr(d-1)} {self.pick('==', '!=')} {self.expr(d-1)}"
        if k == 1:
            return f"{self.number(d-1)} {self.pick('<', '<=', '>', '>=')} {self.number(d-1)}"
        if k == 2:
            return f"{self.expr(d-1)} {self.pick('in', 'not in')} {self.pick(self.list(d-1), self.string(d-1), 'd')}"
        if k == 3:
            return f"{self.expr(d-1)} is {self.pick('', 'not ')}{self.pick('defined', 'undefined', 'none', 'string', 'number', 'integer', 'float', 'boolean', 'true', 'false', 'mapping', 'iterable', 'sequence', 'callable', 'odd', 'even', 'divisibleby 2', 'divisibleby(3)', 'eq 1', 'in [1, 2]', 'lower', 'upper', 'sameas none')}"
        if k == 4:
            return f"not {self.expr(d-1)}"
        if k == 5:
            return f"{self.string(d-1)}.{self.pick('startswith', 'endswith')}({self.pick(repr('H'), repr('d'), 's', repr(''))})"
        if k == 6:
            return f"{self.string(d-1)}.{self.pick('isdigit()', 'isalpha()', 'isupper()', 'islower()', 'isspace()', 'isalnum()')}"
        if k == 7:
            return f"{self.number(d-1)} < {self.number(d-1)} <= {self.number(d-1)}"
        return f"{self.expr(d-1)} {self.pick('and', 'or')} {self.expr(d-1)}"

    def expr(self, d):
        k = self.r.randrange(16)
        if d <= 0 or k < 3:
            return self.name() if self.r.random() < .6 else self.literal()
        if k < 6:
            return f"({self.string(d)})"
        if k < 8:
            return f"({self.number(d)})"
        if k < 10:
            return f"({self.list(d)})"
        if k == 10:
            return f"({self.test(d)})"
        if k == 11:
            return f"({self.expr(d-1)} if {self.test(d-1)}{self.pick('', ' else ' + self.expr(d-1))})"
        if k == 12:
            return self.pick("d.a", "d['b']", "d.n.x[2].y", "d.get('zz', 5)", "d.get('a')", "d['zz']", "msgs[0].role", "msgs[-1]['content']", "msgs[2].tool_calls[0].arguments", "missing.x", "l.0", "nil.x", "s.nope", "d.n.x[7]", "l['x']")
        if k == 13:
            return f"{{'a': {self.expr(d-1)}, {self.pick(repr('b'), '1', 'i', 'f')}: {self.expr(d-1)}}}"
        if k == 14:
            return f"({self.expr(d-1)}|{self.pick('default(' + repr('D') + ')', 'd(1, true)', 'string', 'list', 'first', 'last', 'tojson', 'length', 'trim', 'upper', 'reverse', 'int', 'items|list', 'replace(1, 2)', 'title', 'max', 'unique|list', 'sum', 'dictsort')})"
        return f"{self.expr(d-1)} {self.pick('+', '*', '~', '-', '**', '%')} {self.expr(d-1)}"

    def space(self):
        return self.pick("", "", " ", "\n", "  \n", "\n  ", "text ", " x\n", "é\n\n", "\r\n", "\t")

    def tag(self, body):
        return self.pick("{% ", "{%- ", "{%", "{%+ ") + body + self.pick(" %}", " -%}", "%}", " %}\n", " +%}")

    def output(self, d):
        return self.pick("{{ ", "{{- ", "{{") + self.expr(d) + self.pick(" }}", " -}}", "}}")

    def block(self, d):
        return "".join(self.space() + self.statement(d) + self.space() for _ in range(self.r.randrange(1, 4)))

    def statement(self, d):
        k = self.r.randrange(20)
        if d <= 0 or k < 7:
            return self.output(self.pick(1, 2, 2, 3))
        if k < 9:
            parts = self.tag("if " + self.test(2)) + self.block(d - 1)
            if self.r.random() < .3:
                parts += self.tag("elif " + self.test(2)) + self.block(d - 1)
            if self.r.random() < .5:
                parts += self.tag("else") + self.block(d - 1)
            return parts + self.tag("endif")
        if k < 13:
            target, items = self.pick(("x", self.list(2)), ("x", self.list(2)), ("x", "msgs"), ("k, v", "d.items()"), ("k, v", "d|items"), ("x, k", "[(1, 2), (3, 4)]"), ("x", self.expr(2)))
            condition = self.pick("", "", " if " + self.test(1), " if x is not none")
            old, self.scope = self.scope, self.scope + ["x", "loop.index", "loop.first", "loop.last", "loop.length", "loop.previtem", "loop.nextitem", "loop.revindex", "loop.index0", "x.role", "x.content"]
            body = self.block(d - 1)
            if self.r.random() < .2:
                body += self.tag("if " + self.test(1)) + self.tag(self.pick("break", "continue")) + self.tag("endif") + self.output(1)
            self.scope = old
            tail = self.tag("else") + self.block(d - 1) if self.r.random() < .2 else ""
            return self.tag(f"for {target} in {items}{condition}") + body + tail + self.tag("endfor")
        if k < 15:
            name = self.pick("v", "w", "x")  # not a name of the context: jinja2 hides that from inner scopes before the set runs
            self.scope = self.scope + [name]
            return self.tag(f"set {name} = {self.expr(3)}")
        if k == 15:
            return self.tag("set ns = namespace(a=1, b='x')") + self.tag(f"for x in {self.list(1)}") + self.tag(f"set ns.a = {self.pick('ns.a + 1', 'loop.index', 'x')}") + self.tag("endfor") + "{{ ns.a }}{{ ns.b }}{{ ns.c }}"
        if k == 16:
            self.scope = self.scope + ["v"]
            return self.tag("set v" + self.pick("", " | upper", " | trim | title")) + self.block(d - 1) + self.tag("endset")
        if k == 17:
            old, self.scope = self.scope, self.scope + ["p", "o"]
            body = self.block(d - 1)
            self.scope = old
            call = self.pick("mac(1)", "mac('a', 2)", "mac()", "mac(o=3, p=4)", "mac(1, 2, 3)", "mac(l, q=1)", "mac(*[1, 2])", "mac(**{'p': 1})", "mac")
            return self.tag("macro mac(p, o=" + self.expr(1) + ")") + body + self.tag("endmacro") + "{{ " + call + " }}"
        if k == 18:
            return self.tag("filter " + self.pick("upper", "trim", "replace('e', 'E')|title", "indent(2)")) + self.block(d - 1) + self.tag("endfilter")
        return self.pick(self.tag("with x = " + self.expr(2)) + self.block(d - 1) + self.tag("endwith"),
                         self.tag("generation") + self.block(d - 1) + self.tag("endgeneration"),
                         "{# note #}" + self.space(), "{#- n -#}", "{% raw %}{{ x }}{% endraw %}",
                         "{% macro c(a) %}<{{ caller(a) }}|{{ varargs }}{{ kwargs }}>{% endmacro %}{% call(y) c(i, 5, k=2) %}" + self.block(d - 1) + "{{ y }}{% endcall %}")


def excused(theirs, their_error, status, template):
    if status in (LIMIT, UNSUPPORTED) or "TemplateAssertionError" in (their_error or ""):
        return True
    shown = (theirs or "").lower()
    if any(x in shown for x in (" at 0x", "generator", "<built-in", "<bound", "<function", "<bui", "<itert")):
        return True
    return "safe" in template or "|e" in template or "escape" in template  # markup is followed through + and methods only


def main():
    a = argparse.ArgumentParser(description=__doc__)
    a.add_argument("--build", default=os.path.join(os.path.dirname(__file__), "..", "build", "release"))
    a.add_argument("--n", type=int, default=5000)
    a.add_argument("--seed", type=int, default=1)
    a.add_argument("--show", type=int, default=20)
    o = a.parse_args()
    ours, env = Ours(o.build), environment()
    same = errors = excuses = differ = 0
    for k in range(o.n):
        template = Maker(o.seed * 1000003 + k).block(1 + k % 3)
        theirs, their_error = render(env, template, VARIABLES)
        text, our_error, status = ours.render(template, VARIABLES)
        if theirs is not None and theirs == text:
            same += 1
        elif theirs is None and text is None:
            errors += 1
        elif excused(theirs, their_error, status, template):
            excuses += 1
        else:
            differ += 1
            if differ <= o.show:
                print(f"--- {k}\n{template!r}\n  jinja2: {theirs!r} {their_error or ''}\n  ours:   {text!r} {our_error or ''}")
    print(f"templates={o.n} same={same} both_errors={errors} excused={excuses} different={differ}")
    return differ > 0


if __name__ == "__main__":
    sys.exit(main())
