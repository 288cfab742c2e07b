#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The drawing of docs/benchmarks.md: tokens/s against depth, ours and the peers', prefill and decode side by side, both axes
as they are but speed in a logarithmic scale (a factor is a distance there)."""
import math

from bench_rows import PEERS, split

WIDTH, HEIGHT, LEFT, TOP, GAP = 320, 220, 56, 34, 76
COLOURS = {"fathom": "#0b6e4f", "llama.cpp": "#c8553d", "ik_llama.cpp": "#4059ad"}


def points(rows, kind):
    """{engine: [(depth, tokens/s)]}; a peer without turns shows the best of its sweep."""
    found = {}
    for row, entry in rows.items():
        model, k, depth = split(row)
        if model != "smollm2" or k != kind or depth is None:
            continue
        for name in ["fathom", *PEERS]:
            swept = [s["value"] for s in entry["sweep"] if s["engine"] == name]
            value = entry[name]["median"] if entry[name] else max(swept, default=None)
            if value:
                found.setdefault(name, []).append((depth, value))
    return {name: sorted(found[name]) for name in ["fathom", *PEERS] if name in found}


def nice_range(values):
    """Powers of ten, halves and fifths of them, around all the values."""
    steps = [m * 10**e for e in range(0, 6) for m in (1, 2, 5)]
    low = max((s for s in steps if s <= min(values)), default=1)
    high = min((s for s in steps if s >= max(values)), default=max(values))
    return low, high, [s for s in steps if low <= s <= high]


def panel(name, lines, x0):
    values = [v for p in lines.values() for _, v in p]
    depths = sorted({d for p in lines.values() for d, _ in p})
    low, high, ticks = nice_range(values)
    high = high if high > low else low * 2
    far = max(depths[-1], 1)

    def x(depth):
        return x0 + WIDTH * depth / far

    def y(value):
        return TOP + HEIGHT * (1 - math.log(value / low) / math.log(high / low))

    out = [f'<text x="{x0}" y="{TOP - 14}" font-weight="bold">{name}, tokens/s</text>']
    for t in ticks:
        out.append(f'<line x1="{x0}" x2="{x0 + WIDTH}" y1="{y(t):.1f}" y2="{y(t):.1f}" stroke="#ddd"/>'
                   f'<text x="{x0 - 6}" y="{y(t) + 4:.1f}" text-anchor="end">{t:,}</text>')
    for d in depths:
        out.append(f'<text x="{x(d):.1f}" y="{TOP + HEIGHT + 18}" text-anchor="middle">{d:,}</text>')
    for engine, p in lines.items():
        path = " ".join(f"{x(d):.1f},{y(v):.1f}" for d, v in p)
        out.append(f'<polyline points="{path}" fill="none" stroke="{COLOURS[engine]}" stroke-width="2"/>')
        out += [f'<circle cx="{x(d):.1f}" cy="{y(v):.1f}" r="3" fill="{COLOURS[engine]}"><title>{engine}: {v:,.1f} at {d:,}</title></circle>' for d, v in p]
    return out


def draw(rows):
    """The SVG's text, or None if no row has a depth beyond 0."""
    both = [(words, points(rows, kind)) for words, kind in (("Prefill of 512", "prefill"), ("Decode", "decode"))]
    both = [(words, p) for words, p in both if any(d for line in p.values() for d, _ in line)]
    if not both:
        return None
    width, height = LEFT + len(both) * (WIDTH + GAP), TOP + HEIGHT + 60
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" font-family="sans-serif" font-size="12">',
           f'<rect width="{width}" height="{height}" fill="white"/>']
    for i, (words, lines) in enumerate(both):
        out += panel(words, lines, LEFT + i * (WIDTH + GAP))
    for i, engine in enumerate(e for e in COLOURS if any(e in p for _, p in both)):
        out.append(f'<text x="{LEFT + i * 120}" y="{height - 12}" fill="{COLOURS[engine]}">● {engine}</text>')
    out.append(f'<text x="{width - GAP}" y="{height - 12}" text-anchor="end">SmolLM2-135M Q4_1, tokens of depth →</text></svg>')
    return "\n".join(out) + "\n"
