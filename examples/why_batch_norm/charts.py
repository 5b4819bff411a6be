"""Draws a picture for each panel of results.json, on a light and a dark ground, and an overview for the first page."""

import json
import pathlib
import sys

from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, PercentFormatter

from picture import (
    GROUNDS,
    LINES,
    Picture,
    WITH,
    WITHOUT,
    apart,
    label,
    logarithmic,
    logarithmic_steps,
    low_end,
    percent_axis,
    thousands,
)


def paper(ground, panel):
    series = panel["series"]
    legend = [(f"{arm}, learning rate {series['best'][arm]:g}", i) for i, arm in enumerate((WITH, WITHOUT))]
    picture = Picture(ground, panel, 2.6, 3, legend, ratios=[1.35, 1, 1], gap=0.32)
    left, *units = picture.axes
    bounds = [v for arm in series["unit"].values() for values in arm["percentiles"] for v in values]
    height = 1.16 * (max(bounds) - min(bounds))
    for i, arm in enumerate((WITH, WITHOUT)):
        curve = series["curves"][arm]
        picture.band(left, curve["step"], curve, i)
        unit = series["unit"][arm]
        names = ("15th", "50th", "85th")
        offsets = apart([values[-1] for values in unit["percentiles"]], 0.06 * height)
        for share, values, width, at in zip(names, unit["percentiles"], (1.2, 2.2, 1.2), offsets):
            units[i].plot(unit["step"], values, color=picture.color(i), linewidth=width)
            units[i].annotate(
                share,
                (unit["step"][-1], at),
                xytext=(3, 0),
                textcoords="offset points",
                va="center",
                size=8,
                annotation_clip=False,
            )
        units[i].fill_between(
            unit["step"],
            unit["percentiles"][0],
            unit["percentiles"][2],
            color=picture.color(i),
            alpha=0.15,
            linewidth=0,
        )
        units[i].set_title(arm, color=picture.color(i), weight="bold", loc="left")
    for axes in units:
        axes.set_ylim(min(bounds) - 0.07 * height, max(bounds) + 0.07 * height)
        axes.set_xlim(0, series["curves"][WITH]["step"][-1] * 1.16)
    units[0].set_ylabel("input of a sigmoid, percentiles")
    left.set_title("Test accuracy (band: all seeds)", loc="left")
    percent_axis(left)
    for axes in picture.axes:
        axes.set_xlabel("training step")
    for axes in units:
        axes.locator_params(axis="x", nbins=4)
        thousands(axes)
    logarithmic_steps(left)
    return picture


def learning_rates(ground, panel):
    series = panel["series"]
    legend = [(f"{arm}, best at {series['best'][arm]:g}", i) for i, arm in enumerate((WITH, WITHOUT))]
    picture = Picture(ground, panel, 2.5, 2, legend, gap=0.26)
    left, right = picture.axes
    for i, arm in enumerate((WITH, WITHOUT)):
        picture.spread(left, series["rates"], series["final"][arm], i)
        picture.spread(right, series["rates"], series["steps"][arm], i)
        at = series["rates"].index(series["best"][arm])
        for axes, runs in ((left, series["final"][arm][at]), (right, series["steps"][arm][at])):
            if None not in runs:
                axes.plot(
                    series["best"][arm],
                    sum(runs) / len(runs),
                    "o",
                    markersize=11,
                    fillstyle="none",
                    color=picture.color(i),
                    markeredgewidth=1.6,
                )
    for axes in (left, right):
        logarithmic(axes, series["rates"], "learning rate (circle: the best)")
        axes.set_xlim(series["rates"][0] * 0.8, series["rates"][-1] * 1.25)
    percent_axis(left)
    left.set_title("Test accuracy at the end", loc="left")
    right.set_yscale("log")
    right.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    right.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    right.yaxis.set_minor_formatter(NullFormatter())
    right.set_ylabel("training steps")
    right.set_title(f"Steps to {100 * series['target']:.0f} %, where all seeds reach it", loc="left")
    return picture


def initialization(ground, panel):
    series = panel["series"]
    picture = Picture(ground, panel, 2.3, 1, [(arm, i) for i, arm in enumerate((WITH, WITHOUT))])
    axes = picture.axes[0]
    for i, arm in enumerate((WITH, WITHOUT)):
        picture.spread(axes, series["scales"], series["final"][arm], i)
    logarithmic(axes, series["scales"], "standard deviation of the initial weights, in units of He's sqrt(2 / inputs)")
    percent_axis(axes)
    axes.set_title(
        "Test accuracy at the end, each at its best learning rate, mean and range over the seeds", loc="left"
    )
    return picture


def grid(ground, panel):
    """The learning curves at every pair of learning rate and scale."""
    series = panel["series"]
    rates, scales = series["rates"], series["scales"]
    shown = {**panel, "title": "Learning at every pair of learning rate and weight scale"}
    picture = Picture(
        ground,
        shown,
        4.9,
        len(rates),
        [(f"{arm} (cross: every seed diverged)" if i else arm, i) for i, arm in enumerate((WITH, WITHOUT))],
        rows=len(scales),
        gap=0.12,
        left=1.0,
        row_gap=0.22,
    )
    last = max(curve["step"][-1] for arm in series["grid"].values() for row in arm for curve in row)
    for row, scale in enumerate(scales):
        for column, rate in enumerate(rates):
            axes = picture.axes[row * len(rates) + column]
            for i, arm in enumerate((WITH, WITHOUT)):
                curve = series["grid"][arm][row][column]
                picture.band(axes, curve["step"], curve, i, marker=False)
                if curve["step"][-1] < last:
                    axes.plot(
                        curve["step"][-1],
                        curve["mean"][-1],
                        "x",
                        color=picture.color(i),
                        markersize=7,
                        markeredgewidth=2,
                    )
            axes.set_ylim(0, 1)
            axes.set_xlim(-0.03 * last, 1.03 * last)
            axes.set_yticks([0, 0.5, 1], ["0 %", "50 %", "100 %"] if column == 0 else [])
            if row == 0:
                axes.set_title(f"rate {rate:g}", weight="bold")
            if column == 0:
                axes.set_ylabel(f"scale {scale:g}", weight="bold")
            axes.locator_params(axis="x", nbins=3)
            if row < len(scales) - 1:
                axes.set_xticklabels([])
            else:
                axes.set_xlabel("training step")
    return picture


def gradients(ground, panel):
    series = panel["series"]
    names = [f"initial weights {scale:g} times He's" for scale in series["scales"]]
    picture = Picture(ground, panel, 2.6, 4, list(zip(names, range(3))), gap=0.1, title_room=0.2)
    for column, (arm, at) in enumerate((a, t) for a in (WITH, WITHOUT) for t in (0, series["steps"])):
        axes = picture.axes[column]
        for i, scale in enumerate(series["scales"]):
            runs = series["norms"][arm][f"{scale:g}"][str(at)]
            if runs:
                picture.spread(axes, range(1, len(runs[0]) + 1), list(zip(*runs)), i, marker=False)
        axes.set_yscale("log")
        axes.set_xlabel("layer")
        axes.set_xticks([1, 5, 10, 15, 20])
        when = "at the start" if at == 0 else f"after {at} steps"
        axes.set_title(f"{arm},\n{when}", loc="left", weight="bold" if arm == WITH else "normal")
    norms = [
        n
        for arm in series["norms"].values()
        for times in arm.values()
        for runs in times.values()
        for run in runs
        for n in run
        if n > 0
    ]
    for column, axes in enumerate(picture.axes):
        axes.set_ylim(min(norms) / 3, max(norms) * 3)
        if column:
            axes.set_yticklabels([])
    picture.axes[0].set_ylabel("norm of the gradient by the weights")
    return picture


def regularization(ground, panel):
    series = panel["series"]
    picture = Picture(
        ground, panel, 2.5, 2, [("training accuracy", 3), ("test accuracy", 2)], ratios=[1, 1.5], gap=0.26
    )
    left, right = picture.axes
    names = [name.replace("batch norm", "batch\nnorm") for name in series["arms"]]
    low = low_end([v for key in ("train", "test") for runs in series[key] for v in runs])
    picture.bars(left, names, series["train"], 3, -0.19)
    picture.bars(left, names, series["test"], 2, 0.19)
    percent_axis(left, low, 1.0, "accuracy at the end")
    left.set_title("At the end (dots: the seeds)", loc="left")
    picture.figure.delaxes(right)
    inner = right.get_subplotspec().subgridspec(1, len(series["arms"]), wspace=0.12)
    for column, arm in enumerate(series["arms"]):
        axes = picture.figure.add_subplot(inner[0, column])
        for i, key in ((3, "training"), (2, "test")):
            curve = series["curves"][arm][key]
            picture.band(axes, curve["step"], curve, i, marker=False)
        axes.set_ylim(low, 1.0)
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
        if column:
            axes.set_yticklabels([])
        axes.set_xlabel("training step" if column == 0 else "")
        axes.set_title(arm, loc="left")
        axes.locator_params(axis="x", nbins=2)
        axes.set_xlim(left=0)
    return picture


def affine(ground, panel):
    series = panel["series"]
    picture = Picture(ground, panel, 2.5, 3, [("sigmoid", 2), ("ReLU", 3)], ratios=[1, 1, 1.5], gap=0.3, patches=True)
    for axes, key, neutral in zip(picture.axes, ("gammas", "betas"), (1, 0)):
        values = {a: sorted(series[key][a]) for a in ("sigmoid", "relu")}
        axes.hist(
            [values["sigmoid"], values["relu"]],
            bins=24,
            histtype="stepfilled",
            alpha=0.45,
            color=[picture.color(2), picture.color(3)],
            density=True,
        )
        axes.axvline(neutral, color=picture.colors["text"], linewidth=1.2)
        axes.set_yticks([])
        axes.set_xlabel(f"{key[:-1]} (line: its start, {neutral})")
        axes.set_title(f"{key[:-1]} of all units", loc="left")
    axes = picture.axes[2]
    names = [name.replace(" ", "\n", 1) for name in series["arms"]]
    picture.bars(axes, names, series["test"]["sigmoid"], 2, -0.19)
    picture.bars(axes, names, series["test"]["relu"], 3, 0.19)
    low = low_end([v for runs in series["test"].values() for values in runs for v in values], 0.05)
    percent_axis(axes, low, None)
    axes.set_title("Test accuracy (dots: the seeds)", loc="left")
    return picture


def inference(ground, panel):
    series = panel["series"]
    picture = Picture(ground, panel, 2.5, 3, gap=0.34)
    left, middle, right = picture.axes
    sizes = series["sizes"]
    right_answer = sum(series["right"]) / len(series["right"])
    left.axhline(right_answer, color=picture.color(2), linewidth=1.8, linestyle=LINES[2])
    picture.spread(left, sizes, series["forgotten"]["shuffled"], 0)
    picture.spread(left, sizes, series["forgotten"]["sorted"], 3)
    left.set_xscale("log", base=2)
    left.set_xticks([1, 4, 16, 64, 256], ["1", "4", "16", "64", "256"])
    left.set_xlabel("batch size at inference")
    percent_axis(left)
    left.set_title("A forgotten eval()", loc="left")
    label(picture, left, [("running averages", 2), ("shuffled", 0), ("sorted by class", 3)], "center right")
    for i, arm in enumerate((WITH, WITHOUT)):
        picture.spread(middle, range(len(series["batches"])), series["tiny"][arm], i)
    middle.set_xticks(range(len(series["batches"])), [str(size) for size in series["batches"]])
    middle.set_xlabel("batch size in training")
    percent_axis(middle, label="")
    middle.set_title("Tiny batches, as many images", loc="left")
    label(picture, middle, [(WITH, 0), (WITHOUT, 1)])
    styles = (0, 2, 3)
    for i, curve in zip(styles, series["momenta"].values()):
        picture.band(right, curve["step"], curve, i, marker=False)
    right.set_xlabel("training step")
    right.set_xlim(left=0)
    percent_axis(right, label="")
    right.set_title("A momentum too small", loc="left")
    label(picture, right, [(f"momentum {momentum}", i) for i, momentum in zip(styles, series["momenta"])])
    return picture


def overview(ground, found):
    """For the first page: the learning curves, and the accuracies over the learning rates."""
    by_id = {panel["id"]: panel for panel in found["panels"]}
    first, second = by_id["1_paper_experiment"]["series"], by_id["2_learning_rates"]["series"]
    words = {
        "title": "With batch normalization and without",
        "setting": setting(found),
        "held": "",
        "sentence": "",
        "claim": "Test accuracy while a network learns, and at the end at every learning rate",
        "source": "Three hidden layers of 100 units",
    }
    picture = Picture(ground, words, 2.5, 2, [(arm, i) for i, arm in enumerate((WITH, WITHOUT))], gap=0.2)
    left, right = picture.axes
    for i, arm in enumerate((WITH, WITHOUT)):
        picture.band(left, first["curves"][arm]["step"], first["curves"][arm], i)
        picture.spread(right, second["rates"], second["final"][arm], i)
    for axes in picture.axes:
        percent_axis(axes)
    rates = [f"{first['best'][arm]:g}" for arm in (WITH, WITHOUT)]
    left.set_title(f"Sigmoids, each at its best learning rate ({rates[0]}, {rates[1]})", loc="left")
    left.set_xlabel("training step")
    logarithmic_steps(left)
    right.set_title("ReLUs, at every learning rate", loc="left")
    right.set_ylabel("")
    logarithmic(right, second["rates"], "learning rate")
    return picture


def setting(found):
    return f"{found['data']['name']}, {found['seeds']} seeds"


DRAWINGS = {
    "1_paper_experiment": {"": paper},
    "2_learning_rates": {"": learning_rates},
    "3_initialization": {"": initialization, "_grid": grid},
    "4_gradients": {"": gradients},
    "5_regularization": {"": regularization},
    "6_gamma_beta": {"": affine},
    "7_inference": {"": inference},
}


def draw_all(found, folder):
    """Draws every panel that is there, and gives the paths of the pictures."""
    paths = []
    for ground in GROUNDS:
        for panel in found["panels"]:
            for suffix, draw in DRAWINGS[panel["id"]].items():
                paths.append(folder / f"{panel['id']}{suffix}_{ground}.svg")
                draw(ground, {**panel, "setting": setting(found)}).save(paths[-1])
        if {"1_paper_experiment", "2_learning_rates"} <= {panel["id"] for panel in found["panels"]}:
            paths.append(folder / f"overview_{ground}.svg")
            overview(ground, found).save(paths[-1])
    return paths


if __name__ == "__main__":
    # python3 charts.py RESULTS.JSON: draws again, beside it
    source = pathlib.Path(sys.argv[1])
    for drawn in draw_all(json.loads(source.read_text(encoding="utf-8")), source.parent):
        print(drawn)
