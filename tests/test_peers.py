# SPDX-License-Identifier: MIT
"""scripts/peers.py without peers: what the real tools once printed (tests/data/peers), the commands made for them, the choice of
settings, turns that go on where they stopped; then a whole run over tools that are shell scripts."""
import json
import os
import stat
import sys
import tempfile
import types
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "scripts"))

import bench_rows  # noqa: E402
import peers  # noqa: E402
import peers_build  # noqa: E402
import peers_tools as tools  # noqa: E402


def saved(name):
    with open(os.path.join(HERE, "data", "peers", name), encoding="utf-8") as f:
        return f.read()


class Parsing(unittest.TestCase):
    def test_llama_bench(self):
        found = tools.parse_llama_bench(saved("llama_bench.jsonl"))
        self.assertEqual(set(found), {("prefill", 0), ("decode", 256)})
        self.assertAlmostEqual(found["decode", 256]["value"], (73.3603 + 73.1956) / 2)

    def test_ik_bench_is_one_array(self):
        found = tools.Ik.parse("loading …\n" + saved("ik_bench.json"))
        self.assertEqual(set(found), {("prefill", 0), ("decode", 0)})
        self.assertAlmostEqual(found["prefill", 0]["value"], (38.5473 + 45.4664) / 2)

    def test_ik_sweep_among_its_log(self):
        found = tools.Ik.parse(saved("ik_sweep.txt"))
        self.assertEqual(set(found), {(k, d) for k in ("prefill", "decode") for d in (0, 512, 1024)})
        self.assertEqual((found["prefill", 512]["value"], found["decode", 1024]["value"]), (407.452576, 37.849754))

    def test_fathom(self):
        found = tools.parse_fathom(saved("fathom_bench.jsonl"))
        self.assertEqual(set(found), {("prefill", 0), ("decode", 0), ("prefill", 64), ("decode", 64), ("decode x16", 0)})
        self.assertAlmostEqual(found["decode", 64]["value"], 16.1381893)
        self.assertEqual(found["decode", 64]["kv"], "f16")
        self.assertGreater(found["decode", 64]["bound"], 0)

    def test_time_v_and_stats(self):
        text = saved("time_v.txt")
        self.assertEqual(tools.parse_time_v(text) % 1024, 0)
        self.assertGreater(tools.parse_time_v(text), 100 << 20)
        self.assertEqual(tools.objects(text)[0]["stats"]["kv_bytes"], 1474560)
        self.assertIsNone(tools.parse_time_v("time: no such command"))

    def test_kernels(self):
        line = {"name": "q8a x q4_1 512x1536x576", "unit": "GOP/s", "value": 900.5, "share": 0.4, "bound": 2000}
        none = {"name": "bf16 x bf16 512x1536x576", "unit": "GOP/s", "value": None}
        read = {"name": "read 2 MiB", "unit": "GB/s", "value": 90}
        found = tools.parse_kernels("\n".join(map(json.dumps, (line, none, read))))
        self.assertEqual(found[line["name"]], line)
        self.assertEqual(found[none["name"]]["value"], 0)
        self.assertEqual(len(found), 2)
        self.assertEqual(list(tools.parse_machine(json.dumps(read))), ["read 2 MiB"])

    def test_plan(self):
        ops = tools.parse_plan(saved("plan.jsonl"), 2)
        self.assertEqual(len(ops), 2)
        lines = [o for o in tools.objects(saved("plan.jsonl")) if "seconds" in o]
        linear = [o for o in lines if o["op"] == ops[0]["op"] and o["kernel"] == ops[0]["kernel"]]
        self.assertAlmostEqual(ops[0]["seconds"], sum(o["seconds"] for o in linear))
        self.assertAlmostEqual(ops[0]["share_of_step"], ops[0]["seconds"] / sum(o["seconds"] for o in lines))
        self.assertGreaterEqual(ops[0]["seconds"], ops[1]["seconds"])

    def test_noise_is_no_figure(self):
        for parse in (tools.parse_llama_bench, tools.Ik.parse, tools.parse_fathom, tools.parse_kernels):
            self.assertEqual(parse("error: {\n{broken\n[\n  not json\n]\n"), {})


class Commands(unittest.TestCase):
    REPS = {"threads": 2, "inside": 1}

    def test_ik_fills_contexts_as_few_times_as_windows_allow(self):
        flags = {"fa": 1, "kv": "q8_0", "ub": 512, "rtr": 1}
        tests = [(k, d) for k in ("prefill", "decode") for d in (4096, 8192, 14000)]
        made = list(tools.Ik("x", "/bin").commands("m.gguf", flags, tests, self.REPS))
        self.assertEqual(len(made), 2)
        first, second = (cmd for _, cmd in made)
        self.assertEqual([first[first.index(w) + 1] for w in ("-c", "--sweep-stride")], ["8704", "8"])
        self.assertEqual([second[second.index(w) + 1] for w in ("-c", "--sweep-stride")], ["14336", "27"])
        self.assertEqual(made[1][0]["decode", 14000], ("decode", 13824))
        self.assertIn("--rope-scale", second)

    def test_small_micro_batches_meet_the_same_depth(self):
        flags = {"fa": 1, "kv": "q8_0", "ub": 128, "rtr": 0}
        (_, cmd), = tools.Ik("x", "/bin").commands("m.gguf", flags, [("prefill", 4096)], self.REPS)
        self.assertEqual(cmd[cmd.index("--sweep-stride") + 1], "32")
        self.assertNotIn("-rtr", cmd)

    def test_every_setting_that_is_asked_for_is_in_the_sweep(self):
        for engine in (tools.Llama("x", "/"), tools.Ik("x", "/")):
            settings = engine.settings(False, False)
            for flag, values in {"fa": {0, 1}, "ub": {128, 512, 2048}, "kv": {"f16", "q8_0"}}.items():
                self.assertEqual({s[flag] for s in settings}, values)
            self.assertEqual(len({json.dumps(s) for s in settings}), len(settings))
        self.assertEqual({s["rtr"] for s in settings}, {0, 1})

    def test_recorded_commands_name_no_folder(self):
        model = "/secret/place/m.gguf"
        self.assertEqual(tools.shown(["/secret/bin/llama-bench", "-m", model, "-t", "2"], model), "OMP_PROC_BIND=true llama-bench -m m.gguf -t 2")

    def test_barrier(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "mmq.cpp")
            with open(path, "w", encoding="utf-8") as f:
                f.write("  tc.rows[7] = 16;\n  _tile_loadconfig(&tc);\n")
            peers_build.add_barrier(path)
            with open(path, encoding="utf-8") as f:
                once = f.read()
            self.assertIn('asm volatile("" ::: "memory"); _tile_loadconfig(&tc);', once)
            peers_build.add_barrier(path)
            with open(path, encoding="utf-8") as f:
                self.assertEqual(f.read(), once)
            with open(path, "w", encoding="utf-8") as f:
                f.write("nothing")
            self.assertRaises(SystemExit, peers_build.add_barrier, path)


FAKE_LLAMA = r"""#!/bin/sh
# a llama-bench: 100 tokens/s of prompt and 10 of decode, twice that with a cache in 8 bits; counts its calls
echo "$@" >>"$CALLS"
p=0 n=0 d=0 k=f16
while [ $# -gt 1 ]; do case $1 in -p) p=$2 ;; -n) n=$2 ;; -d) d=$2 ;; -ctk) k=$2 ;; esac; shift; done
f=1; [ $k = q8_0 ] && f=2
[ $p = 0 ] || echo "{\"n_prompt\": $p, \"n_gen\": 0, \"n_depth\": $d, \"samples_ts\": [$((100 * f))]}"
[ $n = 0 ] || echo "{\"n_prompt\": 0, \"n_gen\": $n, \"n_depth\": $d, \"samples_ts\": [$((10 * f))]}"
"""
FAKE_FATHOM = r"""#!/bin/sh
echo "$@" >>"$CALLS"
case $1 in bench) ;; *) exit 1 ;; esac
echo '{"name": "pp512", "value": 300, "samples": [300], "depth": 0, "sessions": 1, "bound": 1000, "share": 0.3}'
echo '{"name": "tg64", "value": 50, "samples": [50], "depth": 0, "sessions": 1, "bound": 40, "share": 1.25}'
echo 'fathom bench: above 100 %' >&2
exit 1
"""


class WholeRun(unittest.TestCase):
    """Two peers' places taken by one script; nothing of the machine but a shell is needed."""

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        path = self.folder.name
        for name, text in {"llama-bench": FAKE_LLAMA, "fathom": FAKE_FATHOM, "m.gguf": ""}.items():
            with open(os.path.join(path, name), "w", encoding="utf-8") as f:
                f.write(text)
            os.chmod(f.name, os.stat(f.name).st_mode | stat.S_IXUSR)
        self.calls = os.environ["CALLS"] = os.path.join(path, "calls")
        self.addCleanup(os.environ.pop, "CALLS")

    def session(self, **more):
        args = types.SimpleNamespace(rows=["smollm2/*"], repeats=5, quick=False, minutes=0, again=False, every_peer=False, wrap="", limit=20,
                                     out=os.path.join(self.folder.name, "results", "r.jsonl"))
        vars(args).update(more)
        info = {"name": "a CPU", "threads": 1, "isa": []}
        session = peers.Session.__new__(peers.Session)
        session.args, session.runner, session.results = args, tools.Runner("", 20), peers.Results(args, info)
        session.deadline, session.models = None, {"smollm2": os.path.join(self.folder.name, "m.gguf")}
        session.ours = tools.Fathom("abc", os.path.join(self.folder.name, "fathom"))
        session.peers = [tools.Llama("1", self.folder.name)]
        return session

    def measure(self, **more):
        session = self.session(**more)
        with open(os.devnull, "w", encoding="utf-8") as nothing:
            old, sys.stdout = sys.stdout, nothing
            try:
                peers.measure_group(session, "smollm2", [0])
            finally:
                sys.stdout = old
        return bench_rows.load(os.path.join(self.folder.name, "results"))

    def count(self):
        with open(self.calls, encoding="utf-8") as f:
            return len(f.read().splitlines())

    def test_best_setting_takes_the_turns_and_a_second_run_does_nothing(self):
        lines = self.measure()
        turns = [r for r in lines if r["phase"] == "turn"]
        self.assertEqual(len(turns), 5 * 2 * 2)
        self.assertEqual({r["flags"]["kv"] for r in turns if r["engine"] == "llama.cpp"}, {"q8_0"})
        self.assertEqual({r["value"] for r in turns if r["row"] == "smollm2/decode@0"}, {20, 50})
        self.assertEqual({r["turn"] for r in turns}, {1, 2, 3, 4, 5})
        settings = tools.Llama("1", "").settings(False, False)
        self.assertEqual(len([r for r in lines if r["phase"] == "sweep" and r["row"] == "smollm2/prefill@0"]), len(settings))
        self.assertNotIn(self.folder.name, json.dumps([r["command"] for r in lines]))
        calls = self.count()
        self.assertEqual(self.measure(), lines)
        self.assertEqual(self.count() - calls, 2, "only the two profiles, which printed nothing, are tried again")

    def test_a_cut_run_goes_on(self):
        whole = self.measure(repeats=2)
        path = os.path.join(self.folder.name, "results", "r.jsonl")
        with open(path, "r+", encoding="utf-8") as f:
            kept = f.read().splitlines()[:-1]
            f.seek(0)
            f.truncate()
            f.write("\n".join(kept) + "\n")
        self.assertEqual(len(self.measure(repeats=2)), len(whole))

    def test_again_is_a_new_series(self):
        self.measure(repeats=1)
        lines = self.measure(repeats=1, again=True)
        self.assertEqual({r["series"] for r in lines if r["phase"] == "turn"}, {1, 2})

    def test_out_of_time_begins_nothing(self):
        session = self.session()
        session.deadline = 0
        peers.measure_group(session, "smollm2", [0])
        self.assertFalse(os.path.exists(self.calls))
        self.assertEqual(len([r for r in self.measure() if r["phase"] == "turn"]), 20, "the next run does it all")

    def test_patterns_choose_rows(self):
        lines = self.measure(rows=["*/decode@0"])
        self.assertEqual({r["row"] for r in lines if r["phase"] == "turn"}, {"smollm2/decode@0"})

    def test_stopwatch_sees_the_first_byte(self):
        got = tools.timed(tools.Runner("", 20), ["sh", "-c", "sleep 0.1; printf a; sleep 0.1; printf b"])
        self.assertEqual(got["out"], "ab")
        self.assertGreaterEqual(got["first_s"], 0.1)
        self.assertGreaterEqual(got["wall_s"], got["first_s"] + 0.1)
        self.assertIsNone(tools.timed(tools.Runner("", 20), ["sh", "-c", "exit 3"]))


if __name__ == "__main__":
    unittest.main(verbosity=1)
