#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""docs/benchmarks.md and its drawings from results/*.jsonl: per CPU, each row of the speed table beside what is asked of it.

Of a row the newest series of the newest commit counts; figures are medians of its turns. What a person has to say about a
row (why it was missed, two attempts and their profiles) stands in docs/benchmarks-notes.md under a heading
"## ROW" (every CPU) or "## ROW on CPU" (CPU: part of its name, or its key) and is put below the row ("## kernels": below the
table of products), so that making the page anew loses nothing. A note whose row is nowhere is an error. --check: exit 1 if a file is not what would be written.
"""
import argparse
import json
import os
import re
import statistics
import sys

import bench_rows
import report_svg
from bench_rows import PEERS, split, title
from peers_build import key_of

DOCS = os.path.join(bench_rows.ROOT, "docs")
ENOUGH = 5  # repeats


def of_engine(turns):
    """What a row's turns of one engine say, or None: median, spread, count, flags, command, medians of bound and share."""
    if not turns:
        return None
    values = [t["value"] for t in turns]
    known = {"median": statistics.median(values), "spread": turns[0]["spread"] if len(turns) == 1 and "spread" in turns[0] else bench_rows.spread(values),
             "n": len(turns), **{k: turns[-1].get(k) for k in ("engine", "flags", "command", "unit", "commit", "when", "version", "bound_of", "file")}}
    for name in ("bound", "share", "one", "bench"):
        found = [t[name] for t in turns if t.get(name)]
        known[name] = statistics.median(found) if found else None
    known["worst_share"] = max((t["share"] for t in turns if t.get("share")), default=None)
    known["last"] = turns[-1]
    return known


def newest(lines):
    """The lines of a row that count: of its newest commit, and there of the last series."""
    last = max(lines, key=lambda r: r["when"])
    series = max(r["series"] for r in lines if r["commit"] == last["commit"])
    return [r for r in lines if r["commit"] == last["commit"] and r["series"] == series]


def gather(lines):
    """{row: {"fathom": …, "llama.cpp": …, "ik_llama.cpp": …, "sweep": [...], "profile": line or None}} of one CPU."""
    rows = {}
    for row in {r["row"] for r in lines}:
        mine = newest([r for r in lines if r["row"] == row])
        engines = {name: of_engine([r for r in mine if r["phase"] == "turn" and r["engine"] == name]) for name in ["fathom", *PEERS]}
        profile = [r for r in mine if r["phase"] == "profile"]
        rows[row] = {**engines, "sweep": [r for r in mine if r["phase"] == "sweep"], "profile": profile[-1] if profile else None}
    return rows


def better_peer(entry):
    """The faster peer of a row: by its turns; where neither took any, there is none."""
    return max((entry[p] for p in PEERS if entry[p]), key=lambda e: e["median"], default=None)


# --- verdicts: (text of what is asked, list of reasons why not; None where nothing can be said) -------------------

def judge_times_peer(row, entry, amx):
    goal, ours, peer = bench_rows.TIMES_PEER[row][amx], entry["fathom"], better_peer(entry)
    asked, missed = f"{goal}× the better peer", []
    if peer and ours["median"] < goal * peer["median"]:
        missed.append(f"{ours['median'] / peer['median']:.2f}× of {goal}×")
    share = bench_rows.SHARE.get(row)
    if share:
        asked += f", ≥ {share:.0%} of the bound".replace("%", " %")
        if not ours["share"]:
            missed.append("no bound was measured")
        elif ours["share"] < share:
            missed.append(f"{ours['share'] * 100:.0f} % of the bound, asked {share * 100:.0f} %")
    return asked, missed if peer or missed else None


def judge_own(row, entry):
    ours = entry["fathom"]
    if row in bench_rows.TIMES_ONE:
        times = bench_rows.TIMES_ONE[row]
        have = ours["median"] / ours["one"]
        return f"{times}× one session ({ours['one']:,.0f} {ours['unit']})", [] if have >= times else [f"{have:.2f}×"]
    if row in bench_rows.AT_MOST:
        limit = bench_rows.AT_MOST[row]
        return f"≤ {limit} {ours['unit']}", [] if ours["median"] <= limit else [f"{ours['median']:.2f} {ours['unit']}"]
    if row == bench_rows.MEMORY:
        limit = (1.15 * ours["last"]["file_bytes"] + ours["last"]["kv_bytes"]) / 1e6 + 64
        return f"≤ 1.15 × file + KV + 64 MB = {limit:.0f} MB", [] if ours["median"] <= limit else [f"{ours['median']:.0f} MB"]
    off = ours["median"] / ours["bench"] - 1
    missed = [] if abs(off) <= bench_rows.WALL_WITHIN else [f"{off * 100:+.1f} %"]
    if ours["last"].get("settings") != ours["last"].get("bench_settings"):
        missed.append("generate and bench ran with different settings")
    return f"within {bench_rows.WALL_WITHIN:.0%} of bench's {ours['bench']:,.0f}".replace("%", " %"), missed


def judge_kernel(row, rows, amx):
    ours, goal = rows[row]["fathom"], bench_rows.kernel_goal(split(row)[1], amx)
    if not goal:
        return "–", None
    kind, share = goal
    have = ours["share"]
    if kind == "bf16":
        peak = max((e["fathom"]["median"] for r, e in rows.items() if r.startswith("machine/bf16") and e["fathom"]), default=None)
        have = ours["median"] / peak if peak else None
    asked = f"≥ {share * 100:.0f} % of " + ("bf16's peak" if kind == "bf16" else "the peak")
    if ours["median"] == 0:
        return asked, ["there is no kernel yet"]
    if have is None:
        return asked, None
    return asked, [] if have >= share else [f"{have * 100:.0f} %"]


def verdict(row, rows, amx):
    """(what is asked, "met" or "missed: why" or "–")"""
    entry = rows[row]
    if row.startswith("kernels/"):
        asked, missed = judge_kernel(row, rows, amx)
    elif row in bench_rows.TIMES_PEER:
        asked, missed = judge_times_peer(row, entry, amx)
    elif split(row)[1] in bench_rows.OWN_NAMES:
        asked, missed = judge_own(row, entry)
    else:
        return "–", "–"
    if missed is None:
        return asked, "–"
    if (entry["fathom"]["worst_share"] or 0) > 1:
        missed = [*missed, "a share above 100 %: that measurement failed"]
    few = min(e["n"] for e in (entry["fathom"], better_peer(entry)) if e)
    only = f" (only {few} repeat{'s' if few > 1 else ''})" if few < ENOUGH and not row.startswith("kernels/") else ""
    return asked, ("**missed**: " + "; ".join(missed) if missed else "met") + only


# --- the page ------------------------------------------------------------------------------------------------------

def number(value):
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def figure(entry):
    return f"{number(entry['median'])} ±{entry['spread'] * 50:.1f} %" if entry else "–"


def flags_text(flags):
    return " ".join(f"{k}={v}" for k, v in flags.items())


def order(row):
    model, kind, depth = split(row)
    rank = {"smollm2": 0, "gemma3": 1, "kernels": 2}.get(model, 3)
    return (rank, depth is None, depth or 0, kind != "decode", kind)


def ratio_cell(row, entry):
    ours, peer = entry["fathom"], better_peer(entry)
    if peer:
        return f"{ours['median'] / peer['median']:.2f}×"
    base = ours["one"] or ours["bench"]
    return f"{ours['median'] / base:.2f}×" if base else "–"


def speed_table(rows, amx):
    lines = ["| row | fathom | better peer | its flags | ratio | asked | bound | share | verdict |", "|---" * 9 + "|"]
    for row in sorted((r for r in rows if rows[r]["fathom"] and split(r)[0] in bench_rows.MODEL_NAMES), key=order):
        entry = rows[row]
        ours, peer = entry["fathom"], better_peer(entry)
        asked, said = verdict(row, rows, amx)
        lines.append("| " + " | ".join([title(row), f"{figure(ours)} {ours['unit']}", f"{peer['engine']} {figure(peer)}" if peer else "–",
                                        flags_text(peer["flags"]) if peer else "–", ratio_cell(row, entry), asked,
                                        number(ours["bound"]) if ours["bound"] else "–", f"{ours['share'] * 100:.0f} %" if ours["share"] else "–", said]) + " |")
    return lines if len(lines) > 2 else []


def kernel_table(rows, amx):
    chosen = [r for r in rows if rows[r]["fathom"] and r.startswith("kernels/")]
    lines = ["", "### Products alone (x of N rows, W of O rows and K columns; N×O×K)", "",
             "| product | GOP/s | kernel | bound | share | asked | verdict |", "|---" * 7 + "|"]
    for row in sorted(chosen, key=order):
        ours = rows[row]["fathom"]
        asked, said = verdict(row, rows, amx)
        lines.append("| " + " | ".join([split(row)[1], figure(ours), ours["last"].get("kernel", "–"),
                                        f"{number(ours['bound'])} ({ours['bound_of']})" if ours["bound"] else "–",
                                        f"{ours['share'] * 100:.0f} %" if ours["share"] else "–", asked, said]) + " |")
    machine = [f"{split(r)[1]} {number(e['fathom']['median'])} {e['fathom']['unit']}" for r, e in rows.items() if r.startswith("machine/") and e["fathom"]]
    return lines + ["", "The machine: " + "; ".join(sorted(machine)) + "."] if chosen else []


def profile_text(profile):
    parts = [f"{o['op']} ({o['kernel']}) {o['share_of_step'] * 100:.0f} % of the step at {o['share_of_bound'] * 100:.0f} % of its bound"
             for o in profile["ops"][:5] if o["share_of_step"] >= 0.02]
    return "Bound by op: " + "; ".join(parts) + "."


def missed_rows(rows, amx, notes, cpu):
    """Below the table: every row that was missed, or that has a note, with its profile and its note."""
    lines = []
    for row in sorted((r for r in rows if rows[r]["fathom"]), key=order):
        said, note = verdict(row, rows, amx)[1], notes_for(notes, row, cpu)
        kernel = row.startswith("kernels/")  # the same few reasons in many rows: a note, not a section each
        if (kernel or not said.startswith("**missed**")) and not note:
            continue
        lines += ["", f"#### {title(row)}", "", f"{said[0].upper()}{said[1:]}." if said != "–" else "Nothing is asked of this row."]
        if rows[row]["profile"]:
            lines += ["", profile_text(rows[row]["profile"])]
        lines += ["", note or f"Owed: two attempts with their profiles (docs/benchmarks-notes.md, \"## {row}\")."]
    return lines


def commands(rows):
    lines = ["", "<details><summary>commands, repeats, commits</summary>", "", "```"]
    for row in sorted(rows, key=order):
        if split(row)[0] in ("kernels", "machine") and not row.endswith(("f32 x f32 512x1536x576", "f32 plain")):
            continue  # one command makes them all
        for name in ["fathom", *PEERS]:
            entry = rows[row][name]
            if entry:
                lines.append(f"{row:22} {name:13} {entry['n']} × {entry['command']}   # commit {entry['commit']}, {entry['when'][:16]}")
    return [*lines, "```", "", "</details>"]


def sweep_table(rows):
    chosen = sorted((s for r in rows.values() for s in r["sweep"]), key=lambda s: (order(s["row"]), s["engine"], -s["value"]))
    if not chosen:
        return []
    lines = ["", "<details><summary>the sweep: every setting of the peers once</summary>", "", "| row | engine | flags | tok/s |", "|---|---|---|---|"]
    lines += [f"| {title(s['row'])} | {s['engine']} | {flags_text(s['flags'])} | {number(s['value'])} |" for s in chosen]
    return [*lines, "", "</details>"]


def read_notes(path):
    """[(row, part of a CPU's name or key or "", text)]"""
    if not os.path.exists(path):
        return []
    with open(path, encoding="utf-8") as f:
        parts = re.split(r"^## +(\S.*?)(?: +on +(.+?))? *$", f.read(), flags=re.MULTILINE)[1:]
    return [(parts[i], parts[i + 1] or "", parts[i + 2].strip()) for i in range(0, len(parts), 3)]


def notes_for(notes, row, cpu):
    return "\n\n".join(text for r, where, text in notes if r == row and (not where or where in cpu["name"] or where == key_of(cpu)))


def cpu_section(cpu, lines, notes, drawings):
    rows, amx = gather(lines), "amx_int8" in cpu["isa"]
    dates = sorted({r["when"][:10] for r in lines})
    text = ["", f"## {cpu['name']}, {cpu['threads']} threads", "",
            f"{', '.join(cpu['isa']) or 'no vector extensions known'}; key {key_of(cpu)}; measured {dates[0]}" + (f" to {dates[-1]}" if len(dates) > 1 else "") + ".", ""]
    text += speed_table(rows, amx)
    drawing = report_svg.draw(rows)
    if drawing:
        name = f"benchmarks-{key_of(cpu)}.svg"
        drawings[name] = drawing
        text += ["", f"![speed against depth]({name})"]
    products = kernel_table(rows, amx)
    text += products + (["", notes_for(notes, "kernels", cpu)] if products else [])
    missed = missed_rows(rows, amx, notes, cpu)
    text += ["", "### Missed, and what was tried", *missed] if missed else []
    return text + commands(rows) + sweep_table(rows)


def document(everything, notes):
    """(the page, {name of a drawing: its text})"""
    drawings = {}
    text = ["# Benchmarks", "",
            "Made by `./run report` from results/*.jsonl: do not edit; remarks go into docs/benchmarks-notes.md. `./run peers` measures: peers built",
            "natively once per commit and CPU, every setting of theirs once, then ours and theirs at its best in turns, threads pinned. A figure is",
            "the median of the turns ± half their range. Only the better peer counts. The bound of decode is the time of loading the same bytes, measured",
            "beside it; of a prompt, its operations at the machine's measured peak. ik_llama.cpp's depths are whole windows of 512 (13,824 for 14,000).",
            "llama.cpp's bench has no option that scales rope; that changes no speed."]
    cpus = sorted({json.dumps(r["cpu"], sort_keys=True) for r in everything})
    for cpu in cpus:
        text += cpu_section(json.loads(cpu), [r for r in everything if json.dumps(r["cpu"], sort_keys=True) == cpu], notes, drawings)
    if not everything:
        text += ["", "No results yet."]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(text)) + "\n", drawings


def main():
    parser = argparse.ArgumentParser(prog="./run report", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", default=bench_rows.RESULTS, help="folder of *.jsonl [results]")
    parser.add_argument("--docs", default=DOCS, help="folder that benchmarks.md and its drawings go to [docs]")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if something would change")
    args = parser.parse_args()
    everything, notes = bench_rows.load(args.results), read_notes(os.path.join(DOCS, "benchmarks-notes.md"))
    unknown = [row for row, _, _ in notes if everything and row not in {"kernels", *(r["row"] for r in everything)} and args.results == bench_rows.RESULTS]
    if unknown:
        sys.exit(f"docs/benchmarks-notes.md: no result has the row {unknown[0]}")
    page, drawings = document(everything, notes)
    stale = []
    for name, text in {"benchmarks.md": page, **drawings}.items():
        path = os.path.join(args.docs, name)
        old = None
        if os.path.exists(path):
            with open(path, encoding="utf-8") as f:
                old = f.read()
        if old != text:
            stale.append(name)
            if not args.check:
                os.makedirs(args.docs, exist_ok=True)
                with open(path, "w", encoding="utf-8") as f:
                    f.write(text)
    print("report:", ", ".join(stale) + (" would change" if args.check else " written") if stale else "nothing changed")
    return 1 if args.check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
