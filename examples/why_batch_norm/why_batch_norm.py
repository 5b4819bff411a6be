#!/usr/bin/env python3
"""Trains small networks with and without batch normalization and holds the claims about it against what comes of it.

Writes results.json and, where matplotlib is installed, a picture for each claim on a light and a dark ground. A run
that was finished is not done again: stop it and call it again to go on.
"""

import argparse
import json
import os
import pathlib
import sys
import textwrap
import time

try:
    from runner import Results, RunError, Trainers
    from scale import DEFAULT, FULL, QUICK
    import data
    import inference_panel
    import more_panels
    import panels
except ImportError as missing:
    sys.exit(
        f"why_batch_norm: {missing}. It needs numpy, tqdm and matplotlib, in Debian python3-numpy, python3-tqdm and "
        "python3-matplotlib."
    )

ALL = (
    panels.Paper(),
    panels.LearningRates(),
    panels.Initialization(),
    more_panels.Gradients(),
    more_panels.Regularization(),
    more_panels.Affine(),
    inference_panel.Inference(),
)


def command_line(arguments):
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n", maxsplit=1)[0],
        epilog="--full takes hours. A folder with train.csv and test.csv, the pixels of a square image and its "
        "class on each line, can stand in the place of IDX files.",
    )
    parser.add_argument("--program", type=pathlib.Path, required=True, help="the program that trains, why_batch_norm")
    parser.add_argument(
        "--data",
        metavar="DIR",
        help="folder with MNIST's files or others of their kind, compressed by gzip or not "
        "(default: Fashion-MNIST where Debian's dataset-fashion-mnist is installed, and otherwise drawn digits)",
    )
    parser.add_argument("--drawn", action="store_true", help="use the drawn digits")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_const", const=QUICK, dest="scale", help="seconds, to see that it works")
    size.add_argument(
        "--full", action="store_const", const=FULL, dest="scale", help="the paper's 50,000 steps, all images"
    )
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("why_batch_norm_results"), metavar="DIR")
    parser.add_argument("--panels", type=int, nargs="+", choices=range(1, len(ALL) + 1), metavar="N", help="only these")
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, help="runs at the same time (default: %(default)s)"
    )
    parser.add_argument("--fresh", action="store_true", help="forget the runs that were finished before")
    parser.add_argument("--no-pictures", action="store_true", help="results and table only")
    line = parser.parse_args(arguments)
    if line.jobs < 1:
        parser.error(f"--jobs: expected at least 1, got {line.jobs}")
    if line.drawn and line.data:
        parser.error("--drawn and --data exclude each other")
    line.scale = line.scale or DEFAULT
    return line


def measure(line):
    """Trains what is missing and returns the contents of results.json."""
    line.output.mkdir(parents=True, exist_ok=True)
    chosen = [panel for number, panel in enumerate(ALL, 1) if not line.panels or number in line.panels]
    folder = None if line.drawn else data.find(line.data, line.output / "data")
    options = ["--validation-images", str(line.scale.validation), "--test-images", str(line.scale.test)]
    if folder is not None:
        options += ["--data", str(folder)]
    elif not line.drawn:
        print("Fashion-MNIST is not installed (Debian: dataset-fashion-mnist), so the digits are drawn.")
    results = Results(line.output / "runs.jsonl", line.program, options, line.fresh)
    start = time.monotonic()
    trainers = Trainers([str(line.program), *options], line.jobs)
    try:
        found = trainers.data
        name = data.display_name(found["name"])
        print(
            f"{name}: {found['train']:,} images of {found['height']} x {found['width']} pixels to train on, "
            f"{found['validation']:,} to choose learning rates, {found['test']:,} to test; {line.scale.seeds} seeds.",
            flush=True,
        )
        trainers.train([run for panel in chosen for run in panel.plan(line.scale)], results, "training")
        later = [run for panel in chosen if hasattr(panel, "follow_up") for run in panel.follow_up(results, line.scale)]
        trainers.train(later, results, "the best again, with other seeds")
    finally:
        trainers.close()
    return {
        "data": {**found, "name": name},
        "scale": line.scale.name,
        "seeds": line.scale.seeds,
        "seconds": round(time.monotonic() - start, 1),
        "panels": [
            {"id": p.id, "title": p.title, "claim": p.claim, "source": p.source, **p.measure(results, line.scale)}
            for p in chosen
        ],
    }


def table(found):
    """Claim, source, what was measured, and whether it held, for a terminal."""
    lines = []
    for panel in found["panels"]:
        lines.append(f"{panel['id'][0]}  {panel['held'].upper():8}  {panel['claim']}.")
        for text in (panel["sentence"], f"({panel['source']})"):
            lines += textwrap.wrap(text, 100, initial_indent=" " * 13, subsequent_indent=" " * 13)
    return "\n".join(lines)


def best_line(found):
    """The accuracies at the end, each at its best learning rate, of the second panel; nothing without that panel."""
    for panel in found["panels"]:
        if panel["id"] == panels.LearningRates.id:
            best = panel["measured"]["test accuracy at the best learning rate"]
            return (
                f"best test accuracy: {100 * best[panels.WITH]['mean']:.2f} % with batch normalization, "
                f"{100 * best[panels.WITHOUT]['mean']:.2f} % without"
            )
    return ""


def main(arguments):
    line = command_line(arguments)
    try:
        found = measure(line)
    except (RunError, data.DataError, OSError) as error:
        message = str(error)
        sys.exit(message if message.startswith("why_batch_norm: ") else f"why_batch_norm: {message}")
    except KeyboardInterrupt:
        sys.exit("\nwhy_batch_norm: stopped; the same command goes on from here")
    target = line.output / "results.json"
    target.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print("\n" + table(found) + "\n")
    if not line.no_pictures:
        try:
            import charts
        except ImportError as missing:
            print(f"no pictures: {missing} (Debian: python3-matplotlib)")
        else:
            for path in charts.draw_all(found, line.output):
                print(path)
    print(f"{target}\ntime: {found['seconds']:.0f} s")
    if best_line(found):
        print(best_line(found))


if __name__ == "__main__":
    main(sys.argv[1:])
