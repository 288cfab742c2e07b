# SPDX-License-Identifier: MIT
"""Jinja2 set up as the Hugging Face tokenizers set it up, and our interpreter through ctypes: shared by the scripts that
make goldens and compare at random. Needs the jinja2 package; for our side a built libfathom.a."""
import ctypes
import datetime
import json
import os
import subprocess
import tempfile

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.sandbox

UNIX_TIME = 1732539600  # 25 November 2024, 13:00 UTC: what strftime_now says in goldens


class Generation(jinja2.ext.Extension):
    """The tag that marks what the assistant said: its body renders as if the tag were not there, in a scope of its own."""
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_render"), [], [], body).set_lineno(line)

    def _render(self, caller):
        return caller()


def environment():
    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        # default=list: a generator is written as the list it gives, which is our one extension
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys,
                          default=lambda v: list(v) if hasattr(v, "__next__") or isinstance(v, range) else fail(v))

    def fail(v):
        raise TypeError(type(v).__name__)

    def strftime_now(text):
        return datetime.datetime.fromtimestamp(UNIX_TIME, datetime.timezone.utc).strftime(text)

    env = jinja2.sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True,
                                                       extensions=[Generation, jinja2.ext.loopcontrols])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = strftime_now
    return env


DEFAULTS = {"messages": [], "tools": None, "documents": None, "add_generation_prompt": False, "bos_token": "",
            "eos_token": ""}


def render(env, template, variables):
    """(text, None) or (None, error)."""
    try:
        return env.from_string(template).render(**{**DEFAULTS, **variables}), None
    except Exception as e:  # whatever Python raises is an error to us
        return None, f"{type(e).__name__}: {e}"


class Error(ctypes.Structure):
    _fields_ = [("code", ctypes.c_int), ("where", ctypes.c_char * 48), ("text", ctypes.c_char * 464)]


class Args(ctypes.Structure):
    _fields_ = [("messages", ctypes.c_void_p), ("n_messages", ctypes.c_size_t), ("messages_json", ctypes.c_char_p),
                ("variables_json", ctypes.c_char_p), ("bos_token", ctypes.c_char_p), ("eos_token", ctypes.c_char_p),
                ("add_generation_prompt", ctypes.c_bool), ("unix_time", ctypes.c_int64),
                ("max_steps", ctypes.c_int64), ("max_output", ctypes.c_size_t), ("max_memory", ctypes.c_size_t)]


class Ours:
    def __init__(self, build):
        os.environ["TZ"] = "UTC"
        self.folder = tempfile.TemporaryDirectory()
        library = os.path.join(self.folder.name, "libfathom-check.so")
        subprocess.check_call(["cc", "-shared", "-o", library, "-Wl,--whole-archive", os.path.join(build, "libfathom.a"),
                               "-Wl,--no-whole-archive", "-lpcre2-8", "-lutf8proc", "-ljansson", "-lcrypto", "-lm",
                               "-pthread"])
        self.lib = ctypes.CDLL(library)

    def render(self, template, variables):
        """(text, None, 0) or (None, error, status)."""
        lib, err, tmpl = self.lib, Error(), ctypes.c_void_p()
        source = template.encode()
        if lib.fm_chat_template_new(source, ctypes.c_size_t(len(source)), ctypes.byref(tmpl), ctypes.byref(err)):
            return None, err.text.decode(errors="replace"), err.code
        args = Args(variables_json=json.dumps(variables).encode(), unix_time=UNIX_TIME)
        out, n = ctypes.c_void_p(), ctypes.c_size_t()
        status = lib.fm_chat_apply(tmpl, ctypes.byref(args), ctypes.byref(out), ctypes.byref(n), ctypes.byref(err))
        lib.fm_chat_template_free(tmpl)
        if status:
            return None, err.text.decode(errors="replace"), err.code
        text = ctypes.string_at(out, n.value).decode()
        lib.fm_chat_text_free(out)
        return text, None, 0
