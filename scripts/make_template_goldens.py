# SPDX-License-Identifier: MIT
"""Writes tests/data/templates/*.json: templates, their variables and what jinja2, set up as the Hugging Face tokenizers set it
up, makes of them (test_chat_template.c compares). Error cases hold null for the text: both must refuse.

usage: make_template_goldens.py [--templates FOLDER]   FOLDER: models/templates of gguf-vocabs.tar.zst, unpacked; without it
                                                       shared.json is left as it is. Needs the jinja2 package."""
import argparse
import glob
import json
import os

import check_templates_random
import template_peer

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "data", "templates")

TOOLS = [{"type": "function", "function": {
    "name": "get_weather", "description": "Weather of a city.", "parameters": {"type": "object", "properties": {
        "city": {"type": "string", "description": "The city"}, "days": {"type": "integer", "default": 3, "description": "How many"},
        "units": {"type": "string", "enum": ["C", "F"], "description": "Units"},
        "where": {"type": "array", "items": {"type": "object", "properties": {"lat": {"type": "number", "description": "north"}}, "required": ["lat"]}, "description": "Points"}},
        "required": ["city"]}}},
    {"type": "function", "function": {"name": "noop", "description": "", "parameters": {"type": "object", "properties": {}}}}]
CHAT = [{"role": "system", "content": "Be brief. \n"}, {"role": "user", "content": "Hi <there> é 😀"},
        {"role": "assistant", "content": "<think>\nhm\n</think>\n\nHello!"}, {"role": "user", "content": "How's \"it\"?\nSecond line "}]


def calls(arguments, content):
    return [{"role": "user", "content": "Weather in Paris?"},
            {"role": "assistant", "content": content, "tool_calls": [
                {"id": "abcdefghi", "type": "function", "function": {"name": "get_weather", "arguments": arguments}}]},
            {"role": "tool", "tool_call_id": "abcdefghi", "name": "get_weather", "content": "18 °C"},
            {"role": "assistant", "content": "It is 18 degrees."}, {"role": "user", "content": "Thanks"}]


TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "datetime": "2024-11-25"}
CONTEXTS = {
    "chat": {**TOKENS, "messages": CHAT, "add_generation_prompt": True},
    "one": {**TOKENS, "messages": CHAT[1:2]},
    "tools": {**TOKENS, "messages": CHAT[1:], "tools": TOOLS, "functions": json.dumps(TOOLS), "add_generation_prompt": True},
    "calls": {**TOKENS, "messages": calls({"city": "Paris", "days": 2, "x": [1, 2.5, None, True]}, None), "tools": TOOLS, "functions": "[]", "add_generation_prompt": True},
    "calls-text": {**TOKENS, "messages": calls("{\"city\": \"Paris\"}", ""), "tools": TOOLS[:1], "functions": "[]", "builtin_tools": ["brave_search"]},
    "parts": {**TOKENS, "messages": [{"role": "user", "content": [{"type": "text", "text": "See "}, {"type": "image"}]}], "enable_thinking": False, "add_generation_prompt": True},
    "empty": {**TOKENS, "messages": []},
    "documents": {**TOKENS, "messages": CHAT, "documents": [{"title": "T", "text": "body"}], "enable_citations": True, "add_generation_prompt": True},
}

SNIPPETS = r"""
{{ 1.0 }} {{ 1e16 }} {{ 1e15 }} {{ 1e-4 }} {{ 1e-5 }} {{ 0.1 + 0.2 }} {{ 100.0 / 3 }} {{ 1e22 }} {{ -0.0 }} {{ 5e-324 }} {{ 1.7976931348623157e308 }}
{{ 7 // 2 }} {{ -7 // 2 }} {{ 7 % -3 }} {{ -7 % 3 }} {{ 7.5 % -2 }} {{ -7.5 // 2 }} {{ 2 ** 10 }} {{ 2 ** -1 }} {{ -2 ** 2 }} {{ 7 / 2 }} {{ 6 / 2 }}
{{ 1 / 0 }}
{{ 1 % 0 }}
{{ true + 1 }} {{ True == 1 }} {{ 1 == 1.0 }} {{ '1' == 1 }} {{ none == false }} {{ [1, 2] == (1, 2) }} {{ {1: 'a'}[true] }} {{ {1: 'a'}[1.0] }}
{{ [1, 'a', "it's", 'q"', none, true, 1.5, (1,), {}, {'k': [()]}] }}
{{ 'tab\t nl\n bs\\ bell\x07 é \u200b 😀' ~ ['tab\t nl\n bs\\ bell\x07 é \u200b 😀'] }}
{{ "a" "b" 'c' }} {{ 'it''s' }} {{ "\u0041\x42\103" }} {{ '\d\
x' }}
{{ 'é😀x'[1] }}{{ 'é😀x'[-1] }}{{ 'é😀x'[::2] }}{{ 'abc'[0] }}{{ 'abc'[-1] }}{{ 'abc'[1:] }}{{ 'abc'[::-1] }}{{ 'héllo'[1] }}{{ 'héllo'[1:3] }}{{ 'abc'[5] }}{{ 'abc'[5:] }}{{ 'abcdef'[4:1:-2] }}{{ [1, 2, 3][-2:] }}{{ (1, 2, 3)[:2] }}
{% set x = none %}{{ x[1:] }}
{{ 'a' + 1 }}
{{ 'a' ~ 1 ~ none ~ true ~ 1.5 ~ [1] ~ missing }}
{{ 'ab' * 3 }}{{ 2 * [0] }}{{ 'x' * -1 }}{{ (1,) * 2 }}
{{ missing }}{{ missing.x }}
{{ missing is defined }} {{ missing | default('d') }} {{ none | default('d') }} {{ none | default('d', true) }} {{ '' | d('e', boolean=true) }} {{ missing|length }}{{ missing|list }} {{ missing == missing2 }}
{{ {}.x is defined }} {{ {'a': none}.a is none }} {{ {'items': 1}.items is callable }} {{ {'items': 1}['items'] }} {{ {}['items'] is callable }}
{{ [3, 1, 2] | sort }} {{ ['b', 'A', 'c'] | sort }} {{ ['b', 'A', 'c'] | sort(case_sensitive=true) }} {{ [3, 1, 2] | sort(reverse=true) }} {{ [{'a': 2}, {'a': 1}] | sort(attribute='a') }}
{{ [1, 'a'] | sort }}
{{ ['a', 'B', 'A', 'b'] | unique | list }} {{ [1, 1.0, true, 2] | unique | list }} {{ [1, 2, 3] | sum }} {{ [{'v': 1}, {'v': 2}] | sum(attribute='v', start=10) }}
{{ [1, 2, 3, 4, 5] | batch(2) | list }} {{ [1, 2, 3, 4, 5] | batch(2, 0) | list }} {{ [1, 2, 3, 4, 5] | slice(3) | list }} {{ range(3) }} {{ range(5, 0, -2) | list }}
{{ {'b': 1, 'A': 2} | dictsort }} {{ {'b': 1, 'a': 2} | dictsort(by='value') }} {{ {'b': 1, 'a': 2} | dictsort(reverse=true) }} {{ {'a': 1}.items() }} {{ {'a': 1}.keys() }} {{ {'a': 1}.values() }}
{{ [1, 2] | map('string') | join('-') }} {{ ['a'] | map('upper') | first }} {{ [1, 0, 2] | select | list }} {{ [1, 2, 3] | reject('odd') | list }} {{ [[1, 2], [3]] | map('length') | list }}
{{ [{'a': {'b': 1}}, {'a': {}}] | map(attribute='a.b') | list }} {{ [{'a': 1}, {}] | map(attribute='a', default=0) | list }} {{ [{'a': 1}, {'a': 2}, {}] | selectattr('a') | list }} {{ [{'a': 1}] | rejectattr('a', 'defined') | list }}
{{ {'a': [1, {'b': 'é"\\/\n\u0001'}], 'f': 1.0, 'n': none, 't': true, '1': {}, 'l': []} | tojson }}
{{ {'a': [1, {'b': 2}], 'e': [], 'o': {}} | tojson(indent=2) }}
{{ {'b': 1, 'a': 'é'} | tojson(sort_keys=true, ensure_ascii=true, separators=(',', ':')) }} {{ {1: 2, none: 3, true: 4, 1.5: 5} | tojson }} {{ 'x' | tojson(indent='\t') }} {{ [1] | tojson(indent='--') }}
{{ missing | tojson }}
{{ 'a\n\nb' | indent }}|{{ 'a\nb' | indent(2, true) }}|{{ 'a\n\nb' | indent(2, blank=true) }}|{{ 'a\nb' | indent('> ', first=true) }}
{{ ' a ' | trim }}|{{ 'xax' | trim('x') }}|{{ 'hello wORLD foo-bar' | title }}|{{ "it's a dog" | title }}|{{ "it's a dog".title() }}|{{ 'hELLO' | capitalize }}|{{ 'ß' | upper }}|{{ 'É' | lower }}
{{ '42' | int }} {{ '42.9' | int }} {{ 'x' | int }} {{ 'x' | int(5) }} {{ '0x1f' | int(base=16) }} {{ ' 7 ' | int }} {{ 3.9 | int }} {{ -3.9 | int }} {{ none | int }} {{ '1_000' | int }} {{ '1.5' | float }} {{ 'x' | float }} {{ 'nan' | float }} {{ '1e3' | float }} {{ true | int }}
{{ 2.5 | round }} {{ 3.5 | round }} {{ 2.675 | round(2) }} {{ 42 | round }} {{ 1.1 | round(0, 'ceil') }} {{ 1.9 | round(0, 'floor') }} {{ 1234.5 | round(-2) }} {{ -5 | abs }} {{ 1.25 | round(1) }}
{{ 'a,b,,c'.split(',') }} {{ ' a  b '.split() }} {{ 'a,b,c'.split(',', 1) }} {{ 'a,b,c'.rsplit(',', 1) }} {{ 'a b c'.split(none, 1) }} {{ 'a=b=c'.partition('=') }} {{ 'a=b=c'.rpartition('=') }} {{ 'x'.partition('=') }} {{ 'a\nb\r\nc'.splitlines() }} {{ ''.split() }} {{ ''.split(',') }}
{{ 'abcabc'.replace('b', 'X') }} {{ 'abcabc'.replace('b', 'X', 1) }} {{ 'ab'.replace('', '-') }} {{ 'aXbX' | replace('X', '') }} {{ 'aaa' | replace('a', 'b', 2) }} {{ 123 | replace(2, 'x') }}
{{ 'abc'.startswith('a') }} {{ 'abc'.startswith(('x', 'ab')) }} {{ 'abc'.endswith('bc') }} {{ 'abc'.startswith('b', 1) }} {{ 'abc'.find('c') }} {{ 'abc'.find('z') }} {{ 'ababab'.count('ab') }} {{ 'abc'.index('b') }} {{ 'x'.join(['a', 'b']) }}
{{ 'abc'.index('z') }}
{{ 'a b'.upper() }}{{ 'A'.lower() }}{{ ' x '.strip() }}|{{ 'xxaxx'.lstrip('x') }}|{{ 'xxaxx'.rstrip('x') }}|{{ 'abc'.removeprefix('a').removesuffix('c') }}|{{ '7'.zfill(3) }}|{{ '-7'.zfill(4) }}|{{ 'a'.center(4, '*') }}|{{ 'ab'.ljust(4) }}|{{ 'ab'.rjust(4, '.') }}
{{ 'a'.isdigit() }} {{ '12'.isdigit() }} {{ 'ab'.isalpha() }} {{ 'AB'.isupper() }} {{ ''.isspace() }} {{ ' \n'.isspace() }} {{ 'aB'.swapcase() }}
{{ '%s and %r, %d%%, %05.1f|%-4s|%x' % ('a', 'b', 3, 2.25, 'z', 255) }} {{ '%s' | format('x') }} {{ '%(a)s' | format(a=1) }}
{{ '%s %s' % ('x',) }}
{{ '{} {}'.format(1, 'a') }} {{ '{1}{0}'.format('a', 'b') }} {{ '{x:>5}|{y:.2f}|{z:,}'.format(x='r', y=3.14159, z=1234567) }} {{ '{{}} {0!r}'.format('q') }} {{ '{0[k]}'.format({'k': 9}) }} {{ '{:05d}|{:+d}|{:^7}|{:*<4}'.format(42, 3, 'mid', 'a') }}
{{ '<a href="x">\'&' | escape }} {{ '<b>' | safe }} {{ ('<b>' | safe) + '<i>' }} {{ '<i>' + ('<b>' | safe) }} {{ ('<' | safe) ~ '<' }} {{ ('<' | safe).upper() + '>' }}
{{ 'a b&c/d?é' | urlencode }} {{ 'one two, three' | wordcount }} {{ 'a long sentence to cut' | truncate(12) }} {{ 'a long sentence' | truncate(10, true, '…', 0) }} {{ 'mid' | center(9) }}|
{{ [1, 2, 3] | first }} {{ [1, 2, 3] | last }} {{ [] | first }} {{ 'abc' | first }} {{ 'abc' | last }} {{ 'abc' | reverse }} {{ [1, 2] | reverse | list }} {{ 'abc' | list }} {{ {'a': 1} | list }} {{ [3, 1] | min }} {{ ['b', 'C'] | max }}
{{ 1 in [1, 2] }} {{ 'a' in 'abc' }} {{ 'k' in {'k': 1} }} {{ 3 not in (1, 2) }} {{ 1 < 2 < 3 }} {{ 1 < 3 < 2 }} {{ 'a' < 'b' }} {{ [1, 2] < [1, 3] }} {{ not 1 == 2 }} {{ 1 if false }} {{ 'y' if 1 else 'n' }} {{ 1 or missing.x }} {{ 0 and missing.x }}
{{ 1 in 'abc' }}
{{ 1 < 'a' }}
{{ 5 is odd }} {{ 4 is even }} {{ 9 is divisibleby 3 }} {{ 9 is divisibleby(2) }} {{ 'a' is string }} {{ 1 is number }} {{ true is number }} {{ true is integer }} {{ 1.0 is float }} {{ {} is mapping }} {{ [] is sequence }} {{ 'a' is iterable }} {{ 1 is iterable }} {{ none is none }} {{ 1 is not none }} {{ 'A' is upper }} {{ 1 is eq 1 }} {{ 1 is in [1] }} {{ range is callable }} {{ 2 is ge(2) }} {{ 'x' is sameas 'x' }} {{ 'upper' is filter }} {{ 'odd' is test }}
{{ 1 is true }} {{ true is true }} {{ false is false }} {{ 0 is false }} {{ false is boolean }} {{ missing is undefined }} {{ missing is not defined and 1 }}
{% for x in [1, 2, 3] %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.previtem }}{{ loop.nextitem }}{{ loop.depth }};{% endfor %}
{% for x in [1, 2, 3, 4] if x is odd %}{{ loop.index }}/{{ loop.length }}:{{ x }}{{ ',' if not loop.last }}{% else %}none{% endfor %}|{% for x in [] %}{% else %}empty{% endfor %}
{% for x in [1, 2, 3, 4] %}{% if x == 2 %}{% continue %}{% elif x == 4 %}{% break %}{% endif %}{{ x }}{% endfor %}
{% for k, v in {'a': 1, 'b': 2}.items() %}{{ k }}={{ v }}{{ ';' if not loop.last }}{% endfor %}{% for a, (b, c) in [(1, (2, 3))] %}{{ a }}{{ b }}{{ c }}{% endfor %}{% for c in 'hé😀' %}[{{ c }}]{% endfor %}{% for k in {'z': 1} %}{{ k }}{% endfor %}
{% for a, b in [(1, 2, 3)] %}{{ a }}{% endfor %}
{% for x in none %}{% endfor %}
{% for x in [1, 1, 2] %}{{ loop.changed(x) }}{{ loop.cycle('a', 'b') }}{% endfor %}{% for x in [[1, [2]], [3]] recursive %}{{ loop.depth }}:{% if x is iterable %}({{ loop(x) }}){% else %}{{ x }}{% endif %}{% endfor %}
{% set x = 1 %}{% for i in [1, 2] %}{{ x }}{% set x = x + i %}{{ x }}{% endfor %}{{ x }}{% set ns = namespace(x=1) %}{% for i in [1, 2] %}{% set ns.x = ns.x + i %}{% endfor %}{{ ns.x }}{{ ns.y }}{{ ns['x'] }}
{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set t = 1, %}{{ t }}{% set c %}text {{ a }}{% endset %}{{ c }}{% set d | upper | replace('T', 't') %}text{% endset %}{{ d }}{% if true %}{% set e = 5 %}{% endif %}{{ e }}
{% set x.y = 1 %}
{% macro m(a, b=2, c=a) %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ m(1) }}|{{ m(1, c=3) }}|{{ m(b=1, a='x') }}|{{ m() }}|{{ m(*[7, 8]) }}|{{ m(**{'a': 5}) }}|{{ m.name }}
{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, 2) }}
{% macro m(a) %}{{ a }}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, 3, k=4) }}{% macro f(n) %}{{ n * f(n - 1) | int if n > 1 else 1 }}{% endmacro %}{{ f(5) }}
{% macro w(t) %}<{{ t }}>{{ caller('x') }}</{{ t }}>{% endmacro %}{% call(arg) w('b') %}body {{ arg }}{% endcall %}{% call(q='def') w('i') %}{{ q }}{% endcall %}
{% macro m() %}{{ outer }}{% endmacro %}{% set outer = 'late' %}{{ m() }}{% filter upper %}low {{ outer }}{% endfilter %}{% with a = 1, b = outer %}{{ a }}{{ b }}{% endwith %}{{ a }}
{{ raise_exception('no ' ~ 1) }}
{{ strftime_now('%Y-%m-%d %H:%M') }} {{ dict(a=1, b=[2]) }} {{ dict([('x', 1)]) }} {{ namespace(a=1).a }} {{ range(3) | list }} {{ [1, 2].index(2) }} {{ (1, 1).count(1) }}
{{ [1].append(2) }}
{{ {}.update({'a': 1}) }}
{{ 'x'.__class__ }}|{{ [].__len__ }}|{{ ''._y }}
  {% if true %}  
 kept
  {%- endif %}  
  {%+ if true %} x{% endif +%}
end
a {#- c -#} b {# c #}
c {{- 1 -}} d
	{% raw %}  {{ x }} {% y %}{% endraw %} e
{% if 1 %}
{% if 0 %}a{% elif 1 %}b{% else %}c{% endif %}{% endif %}


{{ 'trailing' }}

{% if %}
{% for x %}{% endfor %}
{{ 1 + }}
{{ 'unclosed }}
{% if 1 %}
{% endif %}{% endif %}
{{ [1, 2 }}
{{ (1, 2] }}
{{ x | }}
{{ a b }}
{% break %}
{% unknown %}
{{ 1 ~ }}
{# unclosed
{% raw %} unclosed
{% set true = 1 %}
{{ f(a=1, 2) }}
{% macro m(a=1, b) %}{% endmacro %}
{{ 1 is odd is even }}
{{ $ }}
{{ x = 1 }}
{{ {'a': 1}.a.b.c }}
{{ [] | nofilter }}
{{ 1 is notest }}
{{ 'x'() }}
{{ range(200000) | length }}
{{ '%d' % 'x' }}
{{ {[]: 1} }}
{{ -'x' }}
""".split("\n")


def snippets():
    """Lines, but a few that belong together."""
    text, out = "\n".join(SNIPPETS), []
    joined = ["{{ \"a\" \"b\" 'c' }}", "  {% if true %}  \n", "a {#- c -#}", "{% if 1 %}\n{% if 0 %}"]
    lines = text.split("\n")
    i = 0
    while i < len(lines):
        group = 1
        rest = "\n".join(lines[i:])
        for start, count in zip(joined, (2, 5, 3, 5)):
            if rest.startswith(start):
                group = count
        if any(lines[i:i + group]):
            out.append("\n".join(lines[i:i + group]))
        i += group
    return out


def case(env, name, template, variables, inline):
    text, error = template_peer.render(env, template, variables)
    c = {"name": name, "text": text}
    if error:
        c["error"] = error.split("\n")[0]
    if inline:
        c["template"] = template
    return c


def write(name, value):
    with open(os.path.join(HERE, name), "w", encoding="utf-8") as f:
        json.dump(value, f, ensure_ascii=False, indent=1)
        f.write("\n")


def files(env, folder):
    out = []
    for path in sorted(glob.glob(os.path.join(folder, "*.jinja"))):
        with open(path, encoding="utf-8", newline="") as f:
            template = f.read()
        for context, variables in CONTEXTS.items():
            out.append({**case(env, os.path.basename(path), template, variables, False), "context": context})
    return out


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--templates")
    o = a.parse_args()
    env = template_peer.environment()
    write("contexts.json", CONTEXTS)
    write("own.json", files(env, HERE))
    write("snippets.json", [case(env, f"snippet {i}", s, {}, True) for i, s in enumerate(snippets())])
    random_cases = []
    for k in range(260):
        c = case(env, f"random {k}", check_templates_random.Maker(77000 + k).block(1), check_templates_random.VARIABLES, True)
        if not check_templates_random.excused(c["text"], c.get("error"), 0, c["template"]) and len(c["text"] or "") < 600:
            random_cases.append(c)
    write("random.json", {"variables": check_templates_random.VARIABLES, "cases": random_cases})
    if o.templates:
        write("shared.json", files(env, o.templates))


if __name__ == "__main__":
    main()
