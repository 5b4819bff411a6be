"""A picture of a claim: its words, its legend, its axes, on a light or a dark ground."""

import logging
import textwrap

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt  # noqa: E402  (after the choice of what draws)
from matplotlib.patches import Patch  # noqa: E402
from matplotlib.ticker import FuncFormatter, NullFormatter, PercentFormatter  # noqa: E402

WITH, WITHOUT = "with batch norm", "without"
WIDTH = 8.65  # inches, 830 pixels

# Okabe and Ito's colours, which colour-blind readers tell apart too; on each ground those of enough contrast.
GROUNDS = {
    "light": {
        "ground": "#ffffff",
        "text": "#1f2328",
        "faint": "#59636e",
        "grid": "#e3e6ea",
        "series": ["#0072B2", "#C14E00", "#007F5C", "#A8518A"],
    },
    "dark": {
        "ground": "#0d1117",
        "text": "#f0f3f6",
        "faint": "#9aa4af",
        "grid": "#2a313a",
        "series": ["#56B4E9", "#E69F00", "#1FC191", "#DD94BD"],
    },
}
# Text stays text. It is laid out for the first of these, and Verdana's letters are as wide.
FONTS = ["DejaVu Sans", "Verdana", "sans-serif"]
logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # it need not have them all
MARKERS = ["o", "s", "^", "D"]
LINES = ["-", "--", "-.", ":"]


class Picture:
    """A figure with a title, what was claimed and by whom, the legend, the axes, and below what came of it."""

    def __init__(
        self,
        ground,
        panel,
        height,
        columns,
        legend=(),
        *,
        ratios=None,
        rows=1,
        gap=0.30,
        left=0.78,
        row_gap=0.2,
        title_room=0.0,
        patches=False,
    ):
        self.colors = GROUNDS[ground]
        plt.rcParams.update(
            {
                "svg.fonttype": "none",
                "svg.hashsalt": "why_batch_norm",
                "font.family": FONTS,
                "font.size": 9,
                "axes.titlesize": 9.5,
                "axes.labelsize": 9,
                "axes.facecolor": self.colors["ground"],
                "figure.facecolor": self.colors["ground"],
                "savefig.facecolor": self.colors["ground"],
                "text.color": self.colors["text"],
                "axes.labelcolor": self.colors["text"],
                "axes.edgecolor": self.colors["faint"],
                "xtick.color": self.colors["faint"],
                "ytick.color": self.colors["faint"],
                "xtick.labelcolor": self.colors["text"],
                "ytick.labelcolor": self.colors["text"],
                "grid.color": self.colors["grid"],
                "axes.spines.top": False,
                "axes.spines.right": False,
                "axes.grid": True,
                "axes.axisbelow": True,
                "lines.linewidth": 1.8,
                "lines.markersize": 4.5,
                "path.simplify_threshold": 0.5,
            }
        )
        claim = textwrap.wrap(panel["claim"] + ".", 122)
        source = textwrap.wrap(panel["source"], 130)
        said = textwrap.wrap(panel["sentence"], 126)
        line = 0.175
        top = 0.52 + line * (len(claim) + len(source)) + (0.34 if legend else 0.12) + title_room
        bottom = 0.60 + (line * len(said) + 0.08 if said else 0)
        whole = top + height + bottom
        self.figure = plt.figure(figsize=(WIDTH, whole))
        self.figure.text(0.2 / WIDTH, 1 - 0.17 / whole, panel["title"], size=13, weight="bold", va="top")
        word, style = {
            "held": ("held", 2),
            "partly": ("held in part", 1),
            "not held": ("did not hold", 3),
            "": ("", 0),
        }[panel["held"]]
        right = 1 - 0.2 / WIDTH
        self.figure.text(
            right, 1 - 0.11 / whole, word, size=10.5, weight="bold", va="top", ha="right", color=self.color(style)
        )
        self.figure.text(
            right, 1 - 0.30 / whole, panel["setting"], size=8.2, va="top", ha="right", color=self.colors["faint"]
        )
        y = whole - 0.50
        for text in claim:
            self.figure.text(0.2 / WIDTH, y / whole, text, size=9, va="top")
            y -= line
        for text in source:
            self.figure.text(0.2 / WIDTH, y / whole, text, size=8.5, va="top", color=self.colors["faint"])
            y -= line
        if legend:
            handles = [self.handle(style, patches) for _, style in legend]
            self.figure.legend(
                handles,
                [name for name, _ in legend],
                loc="upper left",
                bbox_to_anchor=(0.2 / WIDTH, (y - 0.02) / whole),
                ncol=len(legend),
                frameon=False,
                fontsize=9,
                handlelength=2.4,
                borderaxespad=0,
                columnspacing=1.6,
            )
        y = bottom - 0.60
        for text in said:
            self.figure.text(0.2 / WIDTH, y / whole, text, size=8.8, va="top")
            y -= line
        grid = self.figure.add_gridspec(
            rows,
            columns,
            left=left / WIDTH,
            right=1 - 0.2 / WIDTH,
            top=1 - (top + 0.16) / whole,
            bottom=bottom / whole,
            wspace=gap,
            hspace=row_gap,
            width_ratios=ratios,
        )
        self.axes = [self.figure.add_subplot(grid[r, c]) for r in range(rows) for c in range(columns)]

    def handle(self, style, patch=False):
        color = self.color(style)
        if patch:
            return Patch(facecolor=color)
        return plt.Line2D([], [], color=color, linestyle=LINES[style], marker=MARKERS[style])

    def color(self, i):
        return self.colors["series"][i]

    def band(self, axes, x, curve, i, marker=True):
        axes.fill_between(x, curve["low"], curve["high"], color=self.color(i), alpha=0.22, linewidth=0)
        axes.plot(x, curve["mean"], LINES[i], color=self.color(i), marker=MARKERS[i] if marker else None)

    def spread(self, axes, x, runs, i, marker=True):
        """The mean over the seeds and a band from the lowest to the highest; a gap where a seed has no value."""
        kept = [(a, values) for a, values in zip(x, runs) if None not in values]
        curve = {
            "mean": [sum(v) / len(v) for _, v in kept],
            "low": [min(v) for _, v in kept],
            "high": [max(v) for _, v in kept],
        }
        self.band(axes, [a for a, _ in kept], curve, i, marker)

    def bars(self, axes, names, runs, i, offset=0.0, width=0.36):
        """The mean over the seeds as a bar, each seed as a dot."""
        for at, values in enumerate(runs):
            mean = sum(values) / len(values)
            axes.bar(at + offset, mean, width, color=self.color(i), zorder=2)
            axes.plot(
                [at + offset] * len(values),
                values,
                ".",
                color=self.colors["text"],
                markersize=4,
                zorder=3,
                clip_on=False,
            )
        axes.set_xticks(range(len(names)), names)
        axes.grid(False, axis="x")

    def save(self, path):
        self.figure.savefig(path, metadata={"Date": None})
        plt.close(self.figure)


def percent_axis(axes, low=0.0, high=1.0, label="test accuracy"):
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    axes.set_ylim(low, high)
    axes.set_ylabel(label)


def logarithmic(axes, values, label):
    axes.set_xscale("log")
    axes.set_xticks(values, [f"{value:g}" for value in values])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(axis="x", which="minor", length=0)
    axes.set_xlabel(label)


def logarithmic_steps(axes):
    axes.set_xscale("log")
    thousands(axes)
    axes.xaxis.set_minor_formatter(NullFormatter())


def thousands(axes):
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))


def apart(values, least):
    """Ascending values, moved up where one is less than `least` above the one before."""
    moved = []
    for value in values:
        moved.append(value if not moved else max(value, moved[-1] + least))
    return moved


def low_end(values, step=0.1, room=0.01):
    """A round number below the values, for an axis that need not start at 0."""
    return max(0.0, int((min(values) - room) / step) * step)


def label(picture, axes, names, loc="lower right"):
    handles = [plt.Line2D([], [], color=picture.color(i), linestyle=LINES[i], marker=MARKERS[i]) for _, i in names]
    axes.legend(
        handles,
        [name for name, _ in names],
        loc=loc,
        frameon=True,
        fontsize=8,
        handlelength=2.2,
        facecolor=picture.colors["ground"],
        edgecolor="none",
        framealpha=0.85,
        borderaxespad=0.2,
    )
