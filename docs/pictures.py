#!/usr/bin/env python3
"""Draws the first page's pictures of speed and exactness from the tables in performance.md and exactness.md.

    python3 docs/pictures.py

Needs matplotlib (Debian: python3-matplotlib). The pictures go to docs/images, one for a light ground and one for a dark one.
"""

import logging
import math
import pathlib
import re

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt  # noqa: E402  (after the choice of what draws)

PAGES = pathlib.Path(__file__).resolve().parent
WIDTH = 8.65  # inches, 830 pixels

# Okabe and Ito's colours, which colour-blind readers tell apart too; on each ground those of enough contrast.
GROUNDS = {
    "light": {
        "ground": "#ffffff", "text": "#1f2328", "faint": "#59636e", "grid": "#e3e6ea",
        "series": ["#0072B2", "#C14E00", "#007F5C", "#6e7781"],
    },
    "dark": {
        "ground": "#0d1117", "text": "#f0f3f6", "faint": "#9aa4af", "grid": "#2a313a",
        "series": ["#56B4E9", "#E69F00", "#1FC191", "#9aa4af"],
    },
}  # fmt: skip
logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # not every font need be there
MARKERS = ["o", "s", "^", "D"]


def table(page, *first_cells):
    """The rows of the table in a page that begins with such cells."""
    rows = []
    for line in (PAGES / page).read_text().splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if not line.startswith("|"):
            if rows:
                return rows
        elif rows or cells[: len(first_cells)] == list(first_cells):
            if not set(cells[0]) <= set("-:"):
                rows.append([re.sub(r"\*\*", "", cell) for cell in cells])
    if not rows:
        raise SystemExit(f"pictures.py: {page} has no table that begins with {first_cells}")
    return rows


def figure(ground, height):
    colors = GROUNDS[ground]
    plt.rcParams.update(
        {
            "svg.fonttype": "none", "svg.hashsalt": "batchnorm", "font.family": ["DejaVu Sans", "Verdana", "sans-serif"],
            "font.size": 9, "axes.facecolor": colors["ground"], "figure.facecolor": colors["ground"],
            "savefig.facecolor": colors["ground"], "text.color": colors["text"], "axes.labelcolor": colors["text"],
            "axes.edgecolor": colors["faint"], "xtick.color": colors["faint"], "ytick.color": colors["faint"],
            "xtick.labelcolor": colors["text"], "ytick.labelcolor": colors["text"], "grid.color": colors["grid"],
            "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True,
        }
    )  # fmt: skip
    return plt.figure(figsize=(WIDTH, height)), colors


def save(picture, name, ground):
    (PAGES / "images").mkdir(exist_ok=True)
    picture.savefig(PAGES / "images" / f"{name}-{ground}.svg", metadata={"Date": None})
    plt.close(picture)


def head(picture, height, title, below):
    picture.text(0.02, 1 - 0.26 / height, title, fontsize=12.5, fontweight="bold", va="center")
    picture.text(0.02, 1 - 0.52 / height, below, fontsize=8.5, va="center")


def legend(picture, height, colors, names):
    handles = [
        plt.Line2D([], [], marker=MARKERS[k], color=colors["series"][k], linestyle="", markersize=7, label=name)
        for k, name in enumerate(names)
    ]
    picture.legend(
        handles=handles, loc="upper left", bbox_to_anchor=(0.012, 1 - 0.62 / height), ncol=len(names), frameon=False,
        handletextpad=0.2, columnspacing=1.4, fontsize=9,
    )  # fmt: skip


def speed(ground):
    rows = table("performance.md", "AMD EPYC")
    names = ["batchnorm", "PyTorch", "oneDNN", "Eigen expressions"]
    found = {row[0]: row[1:] for row in rows}
    height = 3.9
    picture, colors = figure(ground, height)
    head(
        picture, height, "Time of a pass, over the limit that memory sets",
        "One thread. 1 is a memcpy of the tensor, or for backward the sum of two tensors into a third. Less is better.",
    )  # fmt: skip
    legend(picture, height, colors, names)
    axes = picture.add_axes((0.2, 0.13, 0.775, 0.615))
    passes = {"train": "training forward", "backward": "backward", "infer": "inference"}
    labels = [f"{passes[cell.split()[0]]}, {cell.split()[1]}" for cell in rows[0][1:]]
    for k, name in reversed(list(enumerate(names))):
        values = [float(cell.split("/")[0]) for cell in found[name]]
        axes.plot(
            values, range(len(values)), MARKERS[k], color=colors["series"][k], markersize=8 if k == 0 else 6.5,
            zorder=3 if k == 0 else 2,
        )  # fmt: skip
    axes.set_yticks(range(len(labels)), labels)
    axes.invert_yaxis()
    axes.set_xscale("log")
    ticks = [0.5, 1, 2, 5, 10, 20, 50]
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.axvline(1, color=colors["text"], linewidth=1.2)
    axes.grid(axis="x")
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("times the limit (geometric mean over the shapes, logarithmic)")
    save(picture, "speed", ground)


def exactness(ground):
    rows = table("exactness.md", "float", "y")
    height = 4.7
    picture, colors = figure(ground, height)
    head(
        picture, height, "The largest error of y, in float",
        "Against 100 decimal digits, relative to the largest value in the channel. At 1 nothing is right.",
    )  # fmt: skip
    names = ["batchnorm", "PyTorch 1.13"]
    legend(picture, height, colors, names)
    axes = picture.add_axes((0.255, 0.105, 0.72, 0.685))
    most = 30
    for place, row in enumerate(rows[1:]):
        errors = [float(cell) for cell in row[1:3]]
        ours, theirs = (most if math.isinf(error) else max(error, 3e-9) for error in errors)
        axes.plot([ours, theirs], [place, place], color=colors["grid"], linewidth=2.5, zorder=1)
        for k, error in enumerate((ours, theirs)):
            axes.plot(error, place, MARKERS[k], color=colors["series"][k], markersize=7.5, zorder=2)
        if errors[0] == 0:
            axes.annotate("0", (ours, place), (8, 0), textcoords="offset points", va="center", color=colors["text"])
        if math.isinf(errors[1]):
            axes.annotate("infinite", (theirs, place), (-9, 0), textcoords="offset points", va="center", ha="right")
    axes.set_yticks(range(len(rows) - 1), [row[0] for row in rows[1:]])
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlim(2e-9, 60)
    ticks = [1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1]
    axes.set_xticks(ticks, [f"1e{round(math.log10(tick))}" if tick < 1 else "1" for tick in ticks])
    axes.minorticks_off()
    axes.axvline(2**-24, color=colors["faint"], linewidth=1, linestyle="--")
    axes.grid(axis="x")
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("largest relative error (logarithmic); the dashed line, 6e-8, is half of a float's last digit")
    save(picture, "exactness", ground)


if __name__ == "__main__":
    for which in GROUNDS:
        speed(which)
        exactness(which)
