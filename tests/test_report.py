# SPDX-License-Identifier: MIT
"""scripts/report.py: verdicts row by row, which lines count, notes that survive, drawings; and the page in docs, if there are results."""
import os
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "scripts"))

import bench_rows  # noqa: E402
import report  # noqa: E402

PLAIN = {"name": "Plain CPU", "threads": 2, "isa": ["avx2"]}
AMX = {"name": "Tile CPU", "threads": 2, "isa": ["avx2", "amx_int8"]}


def line(row, engine, value, turn=1, **more):
    return {"when": f"2026-01-01T00:00:{turn:02}Z", "commit": "aaa", "cpu": PLAIN, "series": 1, "phase": "turn", "row": row, "engine": engine,
            "version": "1", "flags": {"fa": 1} if engine != "fathom" else {}, "turn": turn, "unit": "tok/s", "command": f"{engine} bench",
            "file": "x.jsonl", "value": value, **more}


def turns(row, engine, values, **more):
    return [line(row, engine, v, i + 1, **more) for i, v in enumerate(values)]


def judged(lines, row, amx=False):
    return report.verdict(row, report.gather(lines), amx)[1]


class Verdicts(unittest.TestCase):
    def pair(self, ours, peer, row="smollm2/prefill@0", **more):
        return turns(row, "fathom", [ours] * 5, **more) + turns(row, "llama.cpp", [1] * 5) + turns(row, "ik_llama.cpp", [peer] * 5)

    def test_the_better_peer_counts(self):
        self.assertEqual(judged(self.pair(150, 100), "smollm2/prefill@0"), "met")
        self.assertEqual(judged(self.pair(149, 100), "smollm2/prefill@0"), "**missed**: 1.49× of 1.5×")
        self.assertEqual(judged(self.pair(1, 0.5), "smollm2/prefill@0"), "**missed**: 1.00× of 1.5×")

    def test_with_tiles_more_is_asked(self):
        self.assertEqual(judged(self.pair(199, 100), "smollm2/prefill@0", True), "**missed**: 1.99× of 2×")
        self.assertEqual(judged(self.pair(200, 100), "smollm2/prefill@0", True), "met")

    def test_the_median_decides(self):
        row = "smollm2/prefill@8192"
        lines = turns(row, "fathom", [200, 200, 200, 1, 1]) + turns(row, "llama.cpp", [100] * 5)
        self.assertEqual(judged(lines, row), "met")

    def test_decode_needs_its_share_of_the_bound(self):
        row = "smollm2/decode@0"
        self.assertEqual(judged(self.pair(200, 100, row, share=0.81, bound=250), row), "met")
        self.assertEqual(judged(self.pair(200, 100, row, share=0.79, bound=250), row), "**missed**: 79 % of the bound, asked 80 %")
        self.assertEqual(judged(self.pair(200, 100, row), row), "**missed**: no bound was measured")
        self.assertIn("that measurement failed", judged(self.pair(200, 100, row, share=1.01, bound=250), row))

    def test_few_repeats_are_said(self):
        row = "smollm2/prefill@0"
        self.assertEqual(judged(turns(row, "fathom", [300] * 5) + turns(row, "llama.cpp", [100] * 2), row), "met (only 2 repeats)")

    def test_no_peer_no_verdict(self):
        self.assertEqual(judged(turns("smollm2/prefill@0", "fathom", [300] * 5), "smollm2/prefill@0"), "–")

    def test_own_rows(self):
        row = "smollm2/sessions16"
        self.assertEqual(judged(turns(row, "fathom", [400] * 5, one=100), row), "met")
        self.assertEqual(judged(turns(row, "fathom", [390] * 5, one=100), row), "**missed**: 3.90×")
        row = "smollm2/first-token"
        self.assertEqual(judged(turns(row, "fathom", [0.5] * 5, unit="s"), row), "met")
        self.assertEqual(judged(turns(row, "fathom", [0.51] * 5, unit="s"), row), "**missed**: 0.51 s")
        row = "smollm2/peak-memory"
        sizes = {"file_bytes": 100_000_000, "kv_bytes": 10_000_000, "unit": "MB"}
        self.assertEqual(judged(turns(row, "fathom", [189] * 5, **sizes), row), "met")
        self.assertEqual(judged(turns(row, "fathom", [190] * 5, **sizes), row), "**missed**: 190 MB")
        row = "smollm2/wall-clock"
        self.assertEqual(judged(turns(row, "fathom", [96] * 5, bench=100), row), "met")
        self.assertEqual(judged(turns(row, "fathom", [94] * 5, bench=100), row), "**missed**: -6.0 %")
        self.assertIn("different settings", judged(turns(row, "fathom", [100] * 5, bench=100, settings="a", bench_settings="b"), row))

    def test_kernels(self):
        def of(name, share, value=0, bound=1000):
            return line("kernels/" + name, "fathom", value or share * bound, unit="GOP/s", share=share, bound=bound, bound_of="peak")
        small, big = "512x1536x576", "2048x1536x1536"
        self.assertEqual(judged([of(f"f32 x f32 {small}", 0.7)], f"kernels/f32 x f32 {small}", True), "met")
        self.assertEqual(judged([of(f"q8r x i8 {small}", 0.69)], f"kernels/q8r x i8 {small}"), "**missed**: 69 %")
        self.assertEqual(judged([of(f"q8r x i8 {small}", 0.1)], f"kernels/q8r x i8 {small}", True), "–")  # tiles: from the large one up
        self.assertEqual(judged([of(f"q8r x i8 {big}", 0.4)], f"kernels/q8r x i8 {big}", True), "met")
        self.assertEqual(judged([of(f"q8a x q4_1 {small}", 0.44)], f"kernels/q8a x q4_1 {small}"), "**missed**: 44 %")
        plain = line("machine/bf16 tiles amx", "fathom", 1000, unit="GOP/s")
        none = of(f"bf16 x bf16 {big}", 0)
        self.assertEqual(judged([none], f"kernels/bf16 x bf16 {big}", True), "**missed**: there is no kernel yet")
        self.assertEqual(judged([plain, of(f"q8a x q4_1 {small}", 0.1, 350, 9000)], f"kernels/q8a x q4_1 {small}", True), "met")
        self.assertEqual(judged([plain, of(f"q8a x q4_1 {small}", 0.9, 340, 9000)], f"kernels/q8a x q4_1 {small}", True), "**missed**: 34 %")
        self.assertEqual(judged([of("q8a x q4_1 1x1536x576", 0.1)], "kernels/q8a x q4_1 1x1536x576"), "–")

    def test_every_asked_row_has_a_title_of_its_own(self):
        asked = [*bench_rows.TIMES_PEER, *bench_rows.TIMES_ONE, *bench_rows.AT_MOST, bench_rows.MEMORY, bench_rows.WALL]
        self.assertEqual(len({bench_rows.title(r) for r in asked}), len(asked))
        self.assertTrue(all("/" not in bench_rows.title(r) for r in asked))


class Page(unittest.TestCase):
    def setUp(self):
        row = "smollm2/prefill@4096"
        self.lines = turns(row, "fathom", [160] * 5) + turns(row, "llama.cpp", [100] * 5) + turns("smollm2/prefill@0", "fathom", [500] * 5)
        self.lines.append(line(row, "llama.cpp", 90, phase="sweep", flags={"fa": 0}))
        self.lines.append({**line(row, "fathom", 0, phase="profile"),
                           "ops": [{"op": "attention", "kernel": "tiles", "seconds": 1, "share_of_step": 0.625, "share_of_bound": 0.25}]})

    def test_only_the_newest_commit_and_series_count(self):
        row = "smollm2/prefill@4096"
        newer = turns(row, "fathom", [180] * 5, commit="bbb", when="2026-02-01T00:00:00Z") + turns(row, "llama.cpp", [100] * 5, commit="bbb", when="2026-02-01T00:00:00Z")
        again = [{**r, "series": 2, "value": r["value"] + 10} for r in newer]
        rows = report.gather(self.lines + again + newer)
        self.assertEqual((rows[row]["fathom"]["median"], rows[row]["fathom"]["n"]), (190, 5))
        self.assertEqual(rows[row]["sweep"], [])

    def test_page_has_table_profile_note_sweep_and_drawing(self):
        notes = [("smollm2/prefill@4096", "Plain", "Tried tiles twice."), ("smollm2/prefill@4096", "Other", "not here")]
        page, drawings = report.document(self.lines, notes)
        self.assertIn("| SmolLM2-135M Q4_1: prefill 512 at depth 4,096 | 160 ±0.0 % tok/s | llama.cpp 100 ±0.0 % | fa=1 | 1.60× |", page)
        self.assertIn("Missed**: 1.60× of 1.7×".lower(), page.lower())
        self.assertIn("attention (tiles) 62 % of the step at 25 % of its bound", page)
        self.assertIn("Tried tiles twice.", page)
        self.assertNotIn("not here", page)
        self.assertIn("| llama.cpp | fa=0 | 90.0 |", page)
        (name, text), = drawings.items()
        self.assertIn(f"]({name})", page)
        root = xml.etree.ElementTree.fromstring(text)
        titles = [e.text for e in root.iter("{http://www.w3.org/2000/svg}title")]
        self.assertIn("fathom: 160.0 at 4,096", titles)
        self.assertIn("llama.cpp: 100.0 at 4,096", titles)

    def test_a_miss_without_a_note_says_what_is_owed(self):
        self.assertIn("Owed: two attempts", report.document(self.lines, [])[0])

    def test_cpus_have_sections_of_their_own(self):
        page, _ = report.document(self.lines + [{**r, "cpu": AMX} for r in self.lines], [])
        self.assertIn("1.60× of 1.7×", page)
        self.assertIn("1.60× of 3×", page)

    def test_notes_are_split_by_row_and_cpu(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "n.md")
            with open(path, "w", encoding="utf-8") as f:
                f.write("# Head\nwords\n\n## a/b@1\nfirst\n\n### inner\nmore\n\n## a/c on Tile CPU\nsecond\n")
            self.assertEqual(report.read_notes(path), [("a/b@1", "", "first\n\n### inner\nmore"), ("a/c", "Tile CPU", "second")])

    def test_a_broken_line_names_itself(self):
        with tempfile.TemporaryDirectory() as folder:
            with open(os.path.join(folder, "r.jsonl"), "w", encoding="utf-8") as f:
                f.write('{"phase": "turn", "row": "x"}\n{"phase"\n')
            with self.assertRaises(SystemExit) as caught:
                bench_rows.load(folder)
            self.assertIn("r.jsonl:2", str(caught.exception))


class Repository(unittest.TestCase):
    """What is committed: the page is what its results make, and nothing names a machine's folders."""

    def test_page_is_up_to_date(self):
        if not os.path.isdir(bench_rows.RESULTS) or not bench_rows.load():
            self.skipTest("there are no results")
        done = subprocess.run([sys.executable, os.path.join(bench_rows.ROOT, "scripts/report.py"), "--check"], capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_results_name_no_folder(self):
        for found in bench_rows.load() if os.path.isdir(bench_rows.RESULTS) else []:
            self.assertNotRegex(found.get("command", ""), r"(^|[ =])/[a-z]", found["file"])


if __name__ == "__main__":
    unittest.main(verbosity=1)
