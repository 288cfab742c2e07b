#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Builds llama.cpp and ik_llama.cpp natively, once per commit and CPU, into the user's cache folder.

- llama.cpp: the source inside the Python package llama-cpp-python (fetched with pip), or the folder in LLAMA_SRC;
- ik_llama.cpp: a git folder that has the commit, in IK_SRC; without it that peer is left out, aloud.
LLAMA_BIN and IK_BIN name folders with binaries that exist already (llama-bench; llama-bench and llama-sweep-bench).

What a build needs is complete before it has its final name, so a build that was interrupted goes on where it stopped.
"""
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile

LLAMA_VERSION, IK_COMMIT = "0.3.36", "8337e4cd3"
TILE_FILE, TILE_CALL = "ggml/src/ggml-cpu/amx/mmq.cpp", "_tile_loadconfig(&tc);"
BARRIER = 'asm volatile("" ::: "memory"); '  # gcc 12 drops the stores into the tile configuration without it
LLAMA_TOOLS, IK_TOOLS = ["llama-bench"], ["llama-bench", "llama-sweep-bench"]


def say(*words):
    print("peers:", *words, file=sys.stderr, flush=True)


def cache_folder():
    return os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "fathom")


def cpu():
    """What decides speed and native code here, as far as Linux says it."""
    fields = {}
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        for line in f:
            key, _, value = line.partition(":")
            fields.setdefault(key.strip(), value.strip())
    flags = set(fields.get("flags", fields.get("Features", "")).split())
    wanted = ["avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "amx_bf16", "asimddp", "i8mm"]
    return {"name": fields.get("model name", "unknown"), "family": fields.get("cpu family"), "model": fields.get("model"),
            "threads": len(os.sched_getaffinity(0)), "isa": [w for w in wanted if w in flags]}


def key_of(info):
    """Eight characters for a CPU as far as a native build depends on it."""
    return hashlib.sha256(json.dumps({k: v for k, v in info.items() if k != "threads"}, sort_keys=True).encode()).hexdigest()[:8]


def logged(cmd, log_path):
    with open(log_path, "a", encoding="utf-8") as log:
        done = subprocess.run(cmd, stdout=log, stderr=log, check=False)
    if done.returncode:
        with open(log_path, encoding="utf-8", errors="replace") as log:
            tail = log.readlines()[-15:]
        sys.exit(f"peers: failed ({done.returncode}): {' '.join(cmd[:3])} …; the end of its log:\n{''.join(tail)}")


def cmake_build(source, build, targets):
    """Native and without warnings; CMAKE_C(XX)_COMPILER_LAUNCHER in the environment counts, else ccache if it is there."""
    launcher = []
    if shutil.which("ccache") and not os.environ.get("CMAKE_CXX_COMPILER_LAUNCHER"):
        launcher = ["-DCMAKE_C_COMPILER_LAUNCHER=ccache", "-DCMAKE_CXX_COMPILER_LAUNCHER=ccache"]
    log = build + ".log"
    logged(["cmake", "-G", "Ninja", "-S", source, "-B", build, "-DCMAKE_BUILD_TYPE=Release", "-DGGML_NATIVE=ON", "-DGGML_CCACHE=OFF",
            "-DCMAKE_C_FLAGS=-w", "-DCMAKE_CXX_FLAGS=-w", "-DLLAMA_BUILD_SERVER=OFF", "-DLLAMA_BUILD_TESTS=OFF", "-DLLAMA_BUILD_APP=OFF",
            "-DLLAMA_BUILD_EXAMPLES=ON", "-DLLAMA_OPENSSL=OFF", "-DLLAMA_CURL=OFF", *launcher], log)
    jobs = str(min(len(os.sched_getaffinity(0)), 8))
    logged(["cmake", "--build", build, "-j", jobs, "--target", *targets], log)


def built(folder, tools):
    binaries = os.path.join(folder, "build", "bin")
    return binaries if all(os.path.exists(os.path.join(binaries, t)) for t in tools) else None


def llama_source(folder):
    """The source inside the package's archive, or what LLAMA_SRC names, copied; TARGET appears only when whole."""
    target, part = os.path.join(folder, "source"), os.path.join(folder, "source.part")
    if os.path.exists(target):
        return target
    shutil.rmtree(part, ignore_errors=True)
    given = os.environ.get("LLAMA_SRC")
    if given:
        shutil.copytree(given, part, ignore=shutil.ignore_patterns(".git", "build"), symlinks=True)
    else:
        say("fetching llama.cpp's source with pip (77 MB)")
        subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps", "--no-binary",
                        "llama-cpp-python", "-d", folder, f"llama-cpp-python=={LLAMA_VERSION}"], check=True)
        archive = os.path.join(folder, f"llama_cpp_python-{LLAMA_VERSION}.tar.gz")
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data") if hasattr(tarfile, "data_filter") else tar.extractall(folder)
        unpacked = os.path.join(folder, f"llama_cpp_python-{LLAMA_VERSION}")
        os.rename(os.path.join(unpacked, "vendor", "llama.cpp"), part)
        shutil.rmtree(unpacked)
        os.remove(archive)
    add_barrier(os.path.join(part, TILE_FILE))
    os.rename(part, target)
    return target


def add_barrier(path):
    """Idempotent; a source whose call looks different is refused, because it would crash on a CPU with AMX."""
    with open(path, encoding="utf-8") as f:
        text = f.read()
    before, call, after = text.partition(TILE_CALL)
    if not call:
        sys.exit(f"peers: {TILE_FILE}: found no {TILE_CALL}, which needs a compiler barrier before it")
    if "asm volatile" not in before[-200:]:
        with open(path, "w", encoding="utf-8") as f:
            f.write(before + BARRIER + call + after)


def build_llama(key):
    """The folder with its binaries."""
    given = os.environ.get("LLAMA_BIN") and os.path.abspath(os.environ["LLAMA_BIN"])
    folder = os.path.join(cache_folder(), "peers", f"llama-{LLAMA_VERSION}-{key}")
    if given or built(folder, LLAMA_TOOLS):
        return given or built(folder, LLAMA_TOOLS)
    os.makedirs(folder, exist_ok=True)
    source = llama_source(folder)
    say("building llama.cpp, once for this CPU (about 4 minutes on two cores)")
    cmake_build(source, os.path.join(folder, "build"), LLAMA_TOOLS)
    return built(folder, LLAMA_TOOLS)


def build_ik(key):
    """The folder with its binaries, or None if there is no source."""
    given = os.environ.get("IK_BIN") and os.path.abspath(os.environ["IK_BIN"])
    folder = os.path.join(cache_folder(), "peers", f"ik-{IK_COMMIT}-{key}")
    if given or built(folder, IK_TOOLS):
        return given or built(folder, IK_TOOLS)
    source = os.environ.get("IK_SRC")
    if not source:
        say(f"ik_llama.cpp is left out: set IK_SRC to a git folder that has its commit {IK_COMMIT}")
        return None
    os.makedirs(folder, exist_ok=True)
    copy = os.path.join(folder, "source")
    if not os.path.exists(os.path.join(copy, "CMakeLists.txt")):
        shutil.rmtree(copy, ignore_errors=True)
        subprocess.run(["git", "clone", "-q", "--shared", "--no-checkout", source, copy], check=True)
    # -f and unchecked: a mirror may lack a few large files that are not built
    subprocess.run(["git", "-C", copy, "checkout", "-q", "-f", IK_COMMIT], check=False, stderr=subprocess.DEVNULL)
    head = subprocess.run(["git", "-C", copy, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout
    if not head.startswith(IK_COMMIT):
        sys.exit(f"peers: IK_SRC has no commit {IK_COMMIT} (its checkout ended at {head[:9]})")
    say("building ik_llama.cpp, once for this CPU (about 12 minutes on two cores)")
    cmake_build(copy, os.path.join(folder, "build"), IK_TOOLS)
    return built(folder, IK_TOOLS)
