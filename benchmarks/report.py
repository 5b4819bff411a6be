#!/usr/bin/env python3
"""Turns the results of the benchmark into a table (Markdown, on standard output) and a chart (SVG).

    report.py RESULTS.json [--table TABLE.md] [--chart CHART.svg] [--summary]

--summary leaves out the tables by shape. Needs the standard library only.
"""

import argparse
import json
import math
import sys
from html import escape

WHO = {
    "batchnorm": "batchnorm",
    "spinning": "batchnorm on spinning threads",
    "torch": "PyTorch",
    "onednn": "oneDNN",
    "eigen": "Eigen expressions",
}
PEERS = ("torch", "onednn")
PASSES = {"forward": "training forward", "backward": "backward", "infer": "inference"}
LAYOUTS = ("NCHW", "NHWC", "NC")
LIMIT_GOAL = {"forward": 1.3, "backward": 1.3, "infer": 0.95}
PEER_GOAL = {  # times faster than the best peer
    "forward": {"NCHW": 3, "NHWC": 1.5, "NC": 1.5},
    "backward": {"NCHW": 2, "NHWC": 1.4, "NC": 1.4},
    "infer": {"NCHW": 1.1, "NHWC": 1.1, "NC": 1.1},
}
SHAPE_GOAL = 2  # times the limit, for any one shape
SCALING_GOAL = 0.85  # of what the limit itself gains from one thread to all
LATENCY_GOAL = 100  # ns, inference of 1 x 16


def mean(values):
    """The geometric mean, None of nothing."""
    values = list(values)
    return math.exp(sum(map(math.log, values)) / len(values)) if values else None


class Results:
    """Nanoseconds by (set, layout, shape, pass, threads) and who; of the variants of one the fastest counts."""

    def __init__(self, path):
        with open(path, encoding="utf-8") as file:
            data = json.load(file)
        self.context = data["context"]
        self.ns = {}
        scale = {"ns": 1, "us": 1e3, "ms": 1e6, "s": 1e9}
        for entry in data["benchmarks"]:
            group_set, layout, shape, kind, threads, who = entry["run_name"].split("/")[:6]
            group = self.ns.setdefault((group_set, layout, shape, kind, int(threads)), {})
            who = who.split(":")[0]
            ns = entry["real_time"] * scale[entry["time_unit"]]
            group[who] = min(ns, group.get(who, math.inf))
        self.threads = sorted({key[4] for key in self.ns})
        self.who = [who for who in WHO if any(who in group for group in self.ns.values())]
        self.peers = [who for who in PEERS if who in self.who]

    def shapes(self, kind, layout, tiny=False):
        """(set, shape) in the order in which they were measured."""
        found = {}
        for group_set, at, shape, measured, _ in self.ns:
            if (at, measured) == (layout, kind) and (group_set == "tiny") == tiny:
                found[group_set, shape] = None
        return list(found)

    def get(self, key, who):
        return self.ns.get(key, {}).get(who)

    def over(self, key, who):
        """Times the limit."""
        ns, limit = self.get(key, who), self.get(key, "limit")
        return ns / limit if ns and limit else None

    def best_peer(self, key):
        return min((ns for who, ns in self.ns.get(key, {}).items() if who in PEERS), default=None)

    def speedup(self, key, who="batchnorm"):
        """The best peer's time over ours."""
        ns, peer = self.get(key, who), self.best_peer(key)
        return peer / ns if ns and peer else None

    def mean(self, kind, layout, threads, value):
        """The geometric mean of value(key) over the shapes, without those that have none."""
        keys = [(s, layout, shape, kind, threads) for s, shape in self.shapes(kind, layout)]
        return mean(v for v in map(value, keys) if v)

    def scaling(self, kind, layout):
        """What we gain from one thread to all, over what the limit gains."""
        one, all_threads = self.threads[0], self.threads[-1]

        def relative(key):
            single, multi = (self.over(key[:4] + (threads,), "batchnorm") for threads in (one, all_threads))
            return single / multi if single and multi else None

        return self.mean(kind, layout, one, relative)


def number(value):
    if value is None:
        return "–"
    return f"{value:.2f}" if value < 9.995 else f"{value:.1f}" if value < 99.95 else f"{value:.0f}"


def duration(ns):
    if ns is None:
        return "–"
    for unit, size in (("ms", 1e6), ("µs", 1e3)):
        if ns >= size:
            return f"{ns / size:.3g} {unit}" if ns < 1000 * size else f"{ns / size:.0f} {unit}"
    return f"{ns:.3g} ns"


def both(values):
    return " / ".join(values)


def by_dimension(shape):
    return shape.replace("x", " × ")


def table(header, rows):
    """Markdown: the first column to the left, the others to the right."""
    lines = ["| " + " | ".join(header) + " |", "|---" + "|---:" * (len(header) - 1) + "|"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def machine(results):
    c = results.context
    caches = ", ".join(f"{key.upper()} {c[key]}" for key in ("l1d", "l2", "l3") if key in c).replace("L1D", "L1d")
    versions = [f"{name} {c[key]}" for key, name in
                (("compiler", ""), ("flags", ""), ("libc", ""), ("eigen", "Eigen"), ("torch", "PyTorch"), ("onednn", "oneDNN"))
                if key in c]
    line = f"{c.get('cpu_model', 'unknown processor')}, {c['num_cpus']} processors" + (f" ({caches}); " if caches else "; ")
    line += ", ".join(v.strip() for v in versions) + f"; {c['date'][:10]}."
    if "max_isa" in c:
        line += f" BATCHNORM_MAX_ISA={c['max_isa']}."
    load = c.get("load_avg", [0])[0]
    if load > 0.4 * c["num_cpus"]:
        line += f" The machine was busy with something else at the start: load {load:.1f}."
    return line


def threads_text(results):
    return both(f"{t} thread{'s' * (t > 1)}" for t in results.threads)


def summary(results):
    columns = [(kind, layout) for layout in LAYOUTS for kind in PASSES if results.shapes(kind, layout)]
    rows = []
    for who in results.who:
        cells = [both(number(results.mean(kind, layout, t, lambda key: results.over(key, who)))
                      for t in results.threads) for kind, layout in columns]
        rows.append([f"**{WHO[who]}**" if who == "batchnorm" else WHO[who]] + cells)
    spin = [both(number(results.mean(kind, layout, t, lambda key: results.over(key, "spin")))
                 for t in results.threads) for kind, layout in columns]
    if any(set(cell) - set("– /") for cell in spin):
        rows.append(["*the limit on spinning threads*"] + spin)
    return table([""] + [f"{PASSES[kind]} {layout}" for kind, layout in columns], rows)


def by_shape(results, kind):
    header = ["N × C × H × W", "limit"] + [WHO[who] for who in results.who]
    if results.peers:
        header.append("best peer ÷ ours")
    rows = []
    for layout in LAYOUTS:
        for group_set, shape in results.shapes(kind, layout):
            keys = [(group_set, layout, shape, kind, t) for t in results.threads]
            row = [f"{layout} {by_dimension(shape)}", both(duration(results.get(key, "limit")) for key in keys)]
            row += [both(number(results.over(key, who)) for key in keys) for who in results.who]
            if results.peers:
                row.append(both(number(results.speedup(key)) for key in keys))
            rows.append(row)
    return table(header, rows)


def tiny(results):
    rows = []
    for layout in LAYOUTS:
        for kind in PASSES:
            for group_set, shape in results.shapes(kind, layout, tiny=True):
                keys = [(group_set, layout, shape, kind, t) for t in results.threads]
                rows.append([f"{PASSES[kind]} {layout} {by_dimension(shape)}"]
                            + [both(duration(results.get(key, who)) for key in keys) for who in results.who])
    return table([""] + [WHO[who] for who in results.who], rows) if rows else None


class Goals:
    """Each goal beside what was measured, where it was."""

    def __init__(self):
        self.met = self.total = 0

    def cell(self, sign, goal, values, show=number):
        """"≤ 1.3: 1.21 / **1.35**": what misses the goal is bold. A dash where nothing was measured."""
        values = [v for v in values if v is not None]
        if not values:
            return "–"
        shown = []
        for value in values:
            met = value <= goal if sign == "≤" else value >= goal
            self.met, self.total = self.met + met, self.total + 1
            shown.append(show(value) if met else f"**{show(value)}**")
        verdict = "pass" if not any("*" in v for v in shown) else "**miss**"
        return f"{both(shown)} ({sign} {goal}) {verdict}"

    def table(self, results):
        header = ["", "times the limit"]
        if results.peers:
            header.append("best peer ÷ ours")
        spinning = results.peers and "spinning" in results.who
        if spinning:
            header.append("the same, ours on spinning threads")
        if len(results.threads) > 1:
            header.append("gain by threads ÷ the limit's")
        rows = []
        for layout in LAYOUTS:
            for kind, title in PASSES.items():
                if not results.shapes(kind, layout):
                    continue
                means = [results.mean(kind, layout, t, lambda key: results.over(key, "batchnorm")) for t in results.threads]
                row = [f"{title} {layout}", self.cell("≤", LIMIT_GOAL[kind], means)]
                if results.peers:
                    means = [results.mean(kind, layout, t, results.speedup) for t in results.threads]
                    row.append(self.cell("≥", PEER_GOAL[kind][layout], means))
                if spinning:
                    row.append(number(results.mean(kind, layout, results.threads[-1],
                                                   lambda key: results.speedup(key, "spinning"))))
                if len(results.threads) > 1:
                    row.append(self.cell("≥", SCALING_GOAL, [results.scaling(kind, layout)]))
                rows.append(row)
        return table(header, rows)


def exceptions(results):
    """The shapes above twice the limit or slower than the best peer, the worst first."""
    lines = []
    for key in results.ns:
        group_set, layout, shape, kind, threads = key
        wrong, worst = [], 1
        over, speedup = results.over(key, "batchnorm"), results.speedup(key)
        if group_set != "tiny" and over and over > SHAPE_GOAL:
            wrong.append(f"{number(over)} times the limit")
            worst = over / SHAPE_GOAL
        if speedup and speedup < 1:
            wrong.append(f"{number(1 / speedup)} times the best peer's time")
            worst = max(worst, 1 / speedup)
        if wrong:
            name = f"{PASSES[kind]} {layout} {by_dimension(shape)}, {threads} thread{'s' * (threads > 1)}"
            lines.append((worst, f"- {name}: {', '.join(wrong)}"))
    return [line for _, line in sorted(lines, reverse=True)]


def report(results, short):
    parts = [f"Times over the limit, {threads_text(results)}; geometric means over the shapes. The limit is memcpy of the "
             "tensor for training forward and inference, the sum of two tensors for backward.",
             machine(results), summary(results)]
    if not short:
        for kind, title in PASSES.items():
            parts += [f"### {title.capitalize()}", by_shape(results, kind)]
        small = tiny(results)
        if small:
            parts += ["### Tiny", small]
    if "batchnorm" in results.who:
        goals = Goals()
        parts += ["### Goals", goals.table(results)]
        latency = results.get(("tiny", "NC", "1x16", "infer", results.threads[0]), "batchnorm")
        if latency:
            parts.append("Inference of 1 × 16 floats: " + goals.cell("≤", LATENCY_GOAL, [latency], duration).replace(
                f"≤ {LATENCY_GOAL}", f"≤ {LATENCY_GOAL} ns"))
        total = f"{goals.met} of {goals.total} goals met"
        odd = exceptions(results)
        if odd:
            parts += [f"{total}. Single shapes above {SHAPE_GOAL} times the limit, or slower than the best peer:",
                      "\n".join(odd)]
        else:
            peers = ", none slower than the best peer" if results.peers else ""
            parts.append(f"{total}. No shape above {SHAPE_GOAL} times the limit{peers}.")
    return "\n\n".join(parts)


# The chart: a panel for each pass and layout, a row for each shape, a mark for each contender on a logarithmic axis.

COLOUR = {"batchnorm": "#d6336c", "spinning": "#eebefa", "torch": "#e8890c", "onednn": "#1c7ed6", "eigen": "#868e96"}
PANEL_WIDTH, ROW, LABEL, GAP, TOP = 300, 17, 118, 34, 100


def text(x, y, words, size=11, anchor="start", colour="#343a40", weight="normal"):
    return (f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="{colour}" '
            f'font-weight="{weight}">{escape(words)}</text>')


def mark(x, y, colour, hollow, title, size=4.2):
    fill = "#ffffff" if hollow else colour
    return (f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{size}" fill="{fill}" stroke="{colour}" stroke-width="1.6">'
            f"<title>{escape(title)}</title></circle>")


class Axis:
    """Times the limit, logarithmic."""

    def __init__(self, values):
        values = list(values) + [0.8, 4]
        self.low, self.high = math.log(min(values) * 0.9), math.log(max(values) * 1.12)

    def __call__(self, value):
        return PANEL_WIDTH * (math.log(value) - self.low) / (self.high - self.low)

    def ticks(self):
        every = [m * 10.0**e for e in range(-3, 5) for m in (1, 2, 5)]
        return [t for t in every if self.low <= math.log(t) <= self.high]


def panel(results, kind, layouts, axis, left, top):
    rows = [(layout, s, shape) for layout in layouts for s, shape in results.shapes(kind, layout)]
    height = ROW * len(rows)
    title = " and rank 2".join([f"{PASSES[kind].capitalize()}, {layouts[0]}"] + [""] * (len({r[0] for r in rows}) - 1))
    out = [text(left, top - 10, title, 13, weight="bold")]
    for tick in axis.ticks():
        x = left + axis(tick)
        out.append(f'<line x1="{x:.1f}" y1="{top}" x2="{x:.1f}" y2="{top + height}" stroke="#e9ecef"/>')
        out.append(text(x, top + height + 14, f"{tick:g}", 10, "middle", "#868e96"))
    one, goal = left + axis(1), left + axis(LIMIT_GOAL[kind])
    out.append(f'<line x1="{one:.1f}" y1="{top}" x2="{one:.1f}" y2="{top + height}" stroke="#495057" stroke-width="1.4"/>')
    out.append(f'<line x1="{goal:.1f}" y1="{top}" x2="{goal:.1f}" y2="{top + height}" stroke="{COLOUR["batchnorm"]}" '
               'stroke-dasharray="3 3"/>')
    for i, (layout, group_set, shape) in enumerate(rows):
        y = top + ROW * (i + 0.5)
        out.append(text(left - 8, y + 4, by_dimension(shape), 10.5, "end"))
        for who in reversed(results.who):  # ours last, on top
            points = [(t, results.over((group_set, layout, shape, kind, t), who)) for t in results.threads]
            points = [(t, left + axis(v), v) for t, v in points if v]
            if len(points) > 1:
                out.append(f'<line x1="{points[0][1]:.1f}" y1="{y:.1f}" x2="{points[-1][1]:.1f}" y2="{y:.1f}" '
                           f'stroke="{COLOUR[who]}" stroke-opacity="0.45" stroke-width="1.6"/>')
            for t, x, value in points:
                hollow = t == results.threads[0] and len(results.threads) > 1
                out.append(mark(x, y, COLOUR[who], hollow, f"{WHO[who]}, {t} threads: {number(value)}"))
    return out, height


def chart(results):
    columns = [("NCHW",), ("NHWC", "NC")]
    columns = [c for c in columns if any(results.shapes(kind, layout) for kind in PASSES for layout in c)]
    axis = Axis(v for key in results.ns if key[0] != "tiny" for who in results.who if (v := results.over(key, who)))
    width = 24 + len(columns) * (LABEL + PANEL_WIDTH + GAP)
    out = [text(24, 32, "Batch normalization: time over the limit, by shape (N × C × H × W)", 17, weight="bold"),
           text(24, 52, "1 = memcpy of the tensor (training forward, inference) or adding two tensors into a third "
                "(backward), on as many threads. Logarithmic; less is better.", 11.5, colour="#495057")]
    x = 24.0
    for who in results.who:
        out += [mark(x + 5, 70, COLOUR[who], False, WHO[who]), text(x + 14, 74, WHO[who], 12)]
        x += 32 + 7.0 * len(WHO[who])
    if len(results.threads) > 1:
        words = ("1 thread", f"{results.threads[-1]} threads")
        out += [mark(x + 25, 70, "#495057", True, ""), text(x + 34, 74, words[0], 12),
                mark(x + 99, 70, "#495057", False, ""), text(x + 108, 74, words[1], 12)]
        x += 170
    out += [f'<line x1="{x + 5:.1f}" y1="62" x2="{x + 5:.1f}" y2="78" stroke="{COLOUR["batchnorm"]}" '
            'stroke-dasharray="3 3"/>', text(x + 12, 74, "goal", 12)]
    top = TOP + 14
    for kind in PASSES:
        tallest = 0
        for i, layouts in enumerate(columns):
            left = 24 + LABEL + i * (LABEL + PANEL_WIDTH + GAP)
            drawn, height = panel(results, kind, layouts, axis, left, top)
            out += drawn
            tallest = max(tallest, height)
        top += tallest + 60
    height = top - 10
    about, _, remark = machine(results).partition(". ")
    out.append(text(24, height - 24, about + ".", 10, colour="#868e96"))
    out.append(text(24, height - 10, remark, 10, colour="#868e96"))
    return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
                      f'height="{height:.0f}" font-family="Helvetica, Arial, DejaVu Sans, sans-serif">',
                      f'<rect width="{width:.0f}" height="{height:.0f}" fill="#ffffff"/>'] + out + ["</svg>", ""])


def write(path, words):
    with open(path, "w", encoding="utf-8") as file:
        file.write(words)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("results", help="what bench --out=FILE wrote")
    parser.add_argument("--table", metavar="FILE.md", help="write the table there too")
    parser.add_argument("--chart", metavar="FILE.svg", help="write the chart there")
    parser.add_argument("--summary", action="store_true", help="leave out the tables by shape")
    arguments = parser.parse_args()
    results = Results(arguments.results)
    if not results.ns:
        sys.exit("report.py: no benchmark in " + arguments.results)
    sys.stdout.reconfigure(encoding="utf-8")
    words = report(results, arguments.summary)
    print(words)
    if arguments.table:
        write(arguments.table, words + "\n")
    if arguments.chart:
        write(arguments.chart, chart(results))


if __name__ == "__main__":
    main()
