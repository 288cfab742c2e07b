// SPDX-License-Identifier: MIT
// The drawing: two panels with depth to the right and tokens/s upwards, a line of what was measured and a dashed one of
// its bound. Prefill on a logarithmic scale (its bound is far above), decoding on a linear one.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/error.h"
#include "base/file.h"
#include "bench_out.h"

enum { WIDTH = 720, PANEL = 230, LEFT = 70, RIGHT = 20, TOP = 48, BOTTOM = 42 };

struct panel {
    FILE *to;
    double top, low, high; // pixels; values at the bottom and the top
    int deepest;
    int log_scale;
};

static double x_of(const struct panel *p, int depth)
{
    return LEFT + (WIDTH - LEFT - RIGHT) * (p->deepest ? (double)depth / p->deepest : 0);
}

static double y_of(const struct panel *p, double value)
{
    double at = p->log_scale ? (log(value) - log(p->low)) / (log(p->high) - log(p->low))
                             : (value - p->low) / (p->high - p->low);
    return p->top + PANEL - BOTTOM - at * (PANEL - BOTTOM);
}

static double step_for(double high) // 1, 2 or 5 times a power of ten, five steps or fewer
{
    double step = pow(10, floor(log10(high)));
    if (high / step > 5) return 2 * step;
    if (high / step > 2) return step;
    return high / step > 1 ? step / 2 : step / 5;
}

static void axes(const struct panel *p, const char *title)
{
    fprintf(p->to, "<text x=\"%d\" y=\"%.0f\" class=\"title\">%s, tokens/s</text>\n", LEFT, p->top - 8, title);
    double step = p->log_scale ? 0 : step_for(p->high);
    for (int i = 0;; i++) {
        double v = p->log_scale ? p->low * pow(10, i) : i * step;
        if (v > p->high * 1.001) break;
        double y = y_of(p, v);
        fprintf(p->to,
                "<line x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\" class=\"grid\"/>"
                "<text x=\"%d\" y=\"%.1f\" class=\"left\">%g</text>\n",
                LEFT, WIDTH - RIGHT, y, y, LEFT - 6, y + 4, v);
    }
}

static int wanted(const struct fm_bench_line *l, enum fm__speed_kind kind)
{
    return l->test && l->test->kind == kind && l->test->n_sessions <= 1;
}

static void curve(const struct panel *p, const struct fm_bench_line *lines, int n, enum fm__speed_kind kind, int bound)
{
    fprintf(p->to, "<polyline class=\"%s\" points=\"", bound ? "bound" : "line");
    for (int i = 0; i < n; i++) {
        if (wanted(&lines[i], kind))
            fprintf(p->to, "%.1f,%.1f ", x_of(p, lines[i].test->depth),
                    y_of(p, bound ? lines[i].bound : lines[i].value));
    }
    fprintf(p->to, "\"/>\n");
    for (int i = 0; i < n && !bound; i++) {
        if (!wanted(&lines[i], kind)) continue;
        double x = x_of(p, lines[i].test->depth), y = y_of(p, lines[i].value);
        fprintf(p->to,
                "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3.5\"/><text x=\"%.1f\" y=\"%.1f\" class=\"value\">%.0f</text>"
                "<text x=\"%.1f\" y=\"%.1f\" class=\"depth\">%d</text>\n",
                x, y, x, y - 8, lines[i].value, x, p->top + PANEL - BOTTOM + 18, lines[i].test->depth);
    }
}

static void panel(FILE *to, double top, const struct fm_bench_line *lines, int n, enum fm__speed_kind kind)
{
    struct panel p = {.to = to, .top = top, .log_scale = kind == FM__SPEED_PREFILL};
    double low = INFINITY;
    for (int i = 0; i < n; i++) {
        if (!wanted(&lines[i], kind)) continue;
        if (lines[i].test->depth > p.deepest) p.deepest = lines[i].test->depth;
        p.high = fmax(p.high, fmax(lines[i].value, lines[i].bound));
        low = fmin(low, fmin(lines[i].value, lines[i].bound));
    }
    if (p.high <= 0) return;
    if (p.log_scale) {
        p.low = pow(10, floor(log10(low)));
        p.high = pow(10, ceil(log10(p.high * 1.001)));
    } else {
        p.high *= 1.1;
    }
    axes(&p, kind == FM__SPEED_PREFILL ? "Prefill" : "Decoding");
    curve(&p, lines, n, kind, 1);
    curve(&p, lines, n, kind, 0);
}

fm_status fm__bench_svg(const char *path, const struct fm_bench_out *out, const struct fm_bench_line *lines, int n,
                        struct fm_error *err)
{
    char *text = NULL;
    size_t size = 0;
    FILE *to = open_memstream(&text, &size);
    if (!to) return fm__fail_nomem(err, path, 0);
    int height = 2 * (PANEL + TOP) + 20;
    fprintf(to,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\">\n<style>"
            "text{font:12px sans-serif;fill:#333}.title{font-weight:bold;font-size:13px}.left{text-anchor:end}"
            ".value,.depth{text-anchor:middle}.grid{stroke:#ddd}.line{fill:none;stroke:#1764ab;stroke-width:2}"
            ".bound{fill:none;stroke:#999;stroke-dasharray:5 4}circle{fill:#1764ab}</style>\n"
            "<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n",
            WIDTH, height, WIDTH, height);
    panel(to, TOP, lines, n, FM__SPEED_PREFILL);
    panel(to, 2 * TOP + PANEL, lines, n, FM__SPEED_DECODE);
    fprintf(
        to,
        "<text x=\"%d\" y=\"%d\">tokens before · dashed: the bound · %s, KV %s, %s, %d threads, settings %s</text>\n"
        "</svg>\n",
        LEFT, height - 6, out->type, out->kv, out->level, out->threads, out->settings);
    fm_status status = fclose(to) == 0 ? fm__file_write_all(path, text, size, err) : fm__fail_nomem(err, path, size);
    free(text);
    return status;
}
