#!/usr/bin/env python3
"""The figures of docs/FAST_FORWARD.md, as SVG, from what bench.py and along.py measured; standard library only.

    python3 tests/bench/fast_forward/figures.py FOLDER ALONG.json BENCH.json...
"""

import json
import math
import pathlib
import statistics
import sys
from html import escape

from bench import cost, saving

COLOURS = {"plain": "#666666", "auto": "#1f77b4", "linear": "#d95f02", "paper": "#7b3294"}
PALETTE = ["#1f77b4", "#d95f02", "#2a9d3c", "#7b3294", "#a6761d", "#e7298a"]
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 640, 360, 64, 150, 34, 48


def scale(values, log):
    """A function to [0, 1] and its ticks."""
    low, high = min(values), max(values)
    if log:
        first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
        last = max(last, first + 1)
        return lambda v: (math.log10(v) - first) / (last - first), [10.0 ** k for k in range(first, last + 1)]
    step = 10 ** math.floor(math.log10((high - low) or 1))
    step = next(s for s in (step / 5, step / 2, step, step * 2) if (high - low) / s <= 8)
    low, high = math.floor(low / step) * step, math.ceil(high / step) * step
    count = round((high - low) / step) or 1
    return lambda v: (v - low) / ((high - low) or 1), [low + k * step for k in range(count + 1)]


def chart(path, title, x_name, y_name, lines, log_x=False, log_y=False, rule=None):
    """lines: (name, colour, [(x, y)], "line" | "points" | "dashes")."""
    points = [p for _, _, line, _ in lines for p in line]
    x_at, x_ticks = scale([p[0] for p in points], log_x)
    y_at, y_ticks = scale([p[1] for p in points] + ([rule] if rule is not None else []), log_y)
    plot_w, plot_h = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    x = lambda v: round(LEFT + plot_w * x_at(v), 1)
    y = lambda v: round(TOP + plot_h * (1 - y_at(v)), 1)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
           f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
           f'<text x="{LEFT}" y="20" font-size="14">{escape(title)}</text>']
    for t in x_ticks:
        out.append(f'<path d="M{x(t)} {TOP}V{TOP + plot_h}" stroke="#eeeeee"/><text x="{x(t)}" y="{TOP + plot_h + 16}" '
                   f'text-anchor="middle">{t:g}</text>')
    for t in y_ticks:
        out.append(f'<path d="M{LEFT} {y(t)}H{LEFT + plot_w}" stroke="#eeeeee"/><text x="{LEFT - 6}" y="{y(t) + 4}" '
                   f'text-anchor="end">{t:g}</text>')
    if rule is not None:
        out.append(f'<path d="M{LEFT} {y(rule)}H{LEFT + plot_w}" stroke="#999999" stroke-dasharray="2 3"/>')
    for i, (name, colour, line, style) in enumerate(lines):
        if style == "points":
            out += [f'<circle cx="{x(a)}" cy="{y(b)}" r="3.5" fill="{colour}" fill-opacity="0.6"/>' for a, b in line]
        else:
            dashes = ' stroke-dasharray="5 4"' if style == "dashes" else ""
            out.append(f'<polyline fill="none" stroke="{colour}" stroke-width="1.8"{dashes} points="'
                       + " ".join(f"{x(a)},{y(b)}" for a, b in line) + '"/>')
        out.append(f'<rect x="{LEFT + plot_w + 12}" y="{TOP + 18 * i}" width="12" height="3" fill="{colour}"/>'
                   f'<text x="{LEFT + plot_w + 30}" y="{TOP + 18 * i + 6}">{escape(name)}</text>')
    out.append(f'<text x="{LEFT + plot_w / 2}" y="{HEIGHT - 10}" text-anchor="middle">{escape(x_name)}</text>'
               f'<text transform="translate(14 {TOP + plot_h / 2}) rotate(-90)" text-anchor="middle">{escape(y_name)}</text></svg>')
    path.write_text("\n".join(out) + "\n")


def of(runs, **wanted):
    return [r for r in runs if r["curve"] and all(r[k] == v for k, v in wanted.items())]


def arms(runs):
    return sorted(of(runs, case="searches", task="instruction", seed=1), key=lambda r: list(COLOURS).index(r["arm"]))


def loss_against_flops(folder, runs):
    lines = [(r["arm"], COLOURS[r["arm"]], [(cost(p, "lora") / 1e12, p[4]) for p in r["curve"]], "line") for r in arms(runs)]
    chart(folder / "loss-flops.svg", "Held-out loss against all FLOPs (rate 1e-4, batch 64)", "TFLOP, stages included", "loss", lines)


def tau_over_training(folder, runs):
    lines = [(r["arm"], COLOURS[r["arm"]], [(s["step"], max(s["tau"], 0.5)) for s in r["stages"]], "line")
             for r in arms(runs) if r["stages"]]
    chart(folder / "tau.svg", "Simulated steps of each stage (rate 1e-4, batch 64)", "step", "tau (0 drawn as 0.5)", lines, log_y=True)


def along(folder, curves):
    lines = [(f"{c['rate']:g}, step {c['step']}", PALETTE[i], [((1 + t) * c["rate"], v) for t, v in c["points"]],
              "line" if c["step"] < 10 else "dashes") for i, c in enumerate(curves)]
    chart(folder / "along.svg", "Loss along the last step, by length (1 + tau) · rate", "(1 + tau) · rate", "loss", lines)


def ratios(runs):
    """(batch, rate, ratio) of every pair of runs at the same rate; never reached: 2."""
    out = []
    for fast in of(runs, arm="auto", schedule="constant"):
        for plain in of(runs, arm="plain", **{k: fast[k] for k in ("case", "task", "seed", "rate", "schedule")}):
            s = saving(plain, fast)
            if fast["model"] == "ffwd-tiny-neox" and fast["case"] != "searches":
                out.append((fast["batch"], fast["rate"], s["flops_lora"] if s["reached"] else 2.0))
    return out


def saving_against_rate(folder, runs):
    lines = []
    for i, batch in enumerate(sorted({b for b, _, _ in ratios(runs)})):
        mine = [(r, v) for b, r, v in ratios(runs) if b == batch]
        middle = [(r, statistics.median(v for q, v in mine if q == r)) for r in sorted({q for q, _ in mine})]
        lines.append((f"batch {batch}", PALETTE[i], mine, "points"))
        if len(middle) > 1:
            lines.append((f"median, {batch}", PALETTE[i], middle, "line"))
    chart(folder / "saving.svg", "FLOPs to the plain run's best loss, as a part of the plain run's", "learning rate", "ratio",
          lines, log_x=True, rule=1.0)


def overfitting(folder, runs):
    lines = []
    for r in arms(runs):
        if r["arm"] in ("auto", "linear"):
            lines.append((f"{r['arm']}, its rows", COLOURS[r["arm"]], [(s["step"], s["loss_after"]) for s in r["stages"]], "dashes"))
            lines.append((f"{r['arm']}, others", COLOURS[r["arm"]], [(p[0], p[4]) for p in r["curve"]], "line"))
    chart(folder / "overfitting.svg", "The rows that stages measure on, and rows nobody sees", "step", "loss", lines)


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    runs = [r for name in sys.argv[3:] for r in json.loads(pathlib.Path(name).read_text())["runs"]]
    along(folder, json.loads(pathlib.Path(sys.argv[2]).read_text())["curves"])
    for draw in (loss_against_flops, tau_over_training, overfitting):
        if arms(runs):
            draw(folder, runs)
    if ratios(runs):
        saving_against_rate(folder, runs)


if __name__ == "__main__":
    main()
