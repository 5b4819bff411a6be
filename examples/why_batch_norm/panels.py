"""The seven claims: what is trained for each, and what the results say of it.

A panel has `plan(scale)`, a list of runs, and `measure(results, scale)`, which gives the numbers measured, a sentence,
whether the claim held ("held", "partly", "not held"), and the series that charts.py draws. A learning rate is "its
best" where the validation accuracy at the end of training is the highest; the test images choose nothing. One mean
counts as larger than another where they differ by more than the standard deviations over the seeds, added in squares.
"""

import math
import statistics

WITH, WITHOUT = "with batch norm", "without"
ARMS = {WITH: True, WITHOUT: False}
TRAINS = 0.9  # a run "trains" if it ends within this factor of the best accuracy that it is compared with


def settings(scale, **changes):
    base = {"hidden": [100, 100, 100], "batch_size": 60, "side": scale.side}
    return {**base, **changes}


def mean(values):
    return statistics.fmean(values)


def spread(values):
    """Mean and sample standard deviation over the seeds."""
    values = list(values)
    return {"mean": mean(values), "deviation": statistics.stdev(values) if len(values) > 1 else 0.0}


def final(result, key="test"):
    """An accuracy at the end: the mean over the last three points of the run, as one wanders at a constant rate."""
    return mean(entry[key] for entry in result["curve"][-3:]) if not result["diverged"] else result["curve"][-1][key]


def clearly_more(a, b):
    """Whether one mean is larger than another by more than the spread over the seeds."""
    return a["mean"] - b["mean"] > math.hypot(a["deviation"], b["deviation"])


def curves(results, key="test"):
    """Step, mean, lowest and highest over the seeds of a run's curve; seeds that diverged stay at their last."""
    steps = sorted({entry["step"] for result in results for entry in result["curve"]})
    rows = []
    for result in results:
        values, by_step, last = [], {entry["step"]: entry[key] for entry in result["curve"]}, None
        for step in steps:
            last = by_step.get(step, last if last is not None else result["curve"][0][key])
            values.append(last)
        rows.append(values)
    columns = list(zip(*rows))
    return {
        "step": steps,
        "mean": [mean(column) for column in columns],
        "low": [min(column) for column in columns],
        "high": [max(column) for column in columns],
    }


def steps_to(result, accuracy, key="test"):
    """The step at which the curve first crosses an accuracy, by straight lines between its points; None if never."""
    before = (0, 0.0)
    for entry in result["curve"]:
        step, value = entry["step"], entry[key]
        if value >= accuracy:
            share = (accuracy - before[1]) / (value - before[1]) if value > before[1] else 1.0
            return before[0] + share * (step - before[0])
        before = (step, value)
    return None


def average(steps):
    """The mean number of steps; infinite where a seed never got there."""
    return mean(step if step is not None else math.inf for step in steps)


def clearly_fewer(a, b):
    """Whether all seeds got there in clearly fewer steps, or got there at all where some of the others did not."""
    if None in a or None in b:
        return None in b and None not in a
    return clearly_more(spread(b), spread(a))


def steps_described(steps):
    if None in steps:
        return "more steps than were taken"
    return f"{mean(steps):,.0f} steps ({min(steps):,.0f} to {max(steps):,.0f})"


def best_rate(runs_by_rate):
    return max(runs_by_rate, key=lambda rate: mean(final(run, "validation") for run in runs_by_rate[rate]))


def percent(value, digits=1):
    return f"{100 * value:.{digits}f}\u00a0%"


def points(difference):
    """A difference of shares in percentage points."""
    return f"{round(100 * difference, 1) + 0.0:.1f}"


def percent_spread(found):
    return f"{100 * found['mean']:.1f} ± {100 * found['deviation']:.1f}\u00a0%"


def number(value):
    return f"{value:.3g}"


class Paper:
    """The paper's own experiment, on these images."""

    id = "1_paper_experiment"
    title = "Does it train faster, and further?"
    claim = (
        "The network with batch normalization learns in fewer steps, ends higher, and the inputs of its "
        "units drift less"
    )
    source = "Ioffe and Szegedy 2015, section 4.1 and figure 1: three hidden layers of 100 sigmoids, batches of 60"
    rates = (0.3, 1, 3, 10)

    def steps(self, scale):
        return scale.first_panel_steps

    def points(self, scale):
        return scale.points_up_to(self.steps(scale), 8 if scale.name == "quick" else 24)

    def run(self, scale, arm, rate, seed):
        steps, points = self.steps(scale), self.points(scale)
        return settings(
            scale,
            side=0,
            activation="sigmoid",
            weight_deviation=0.1,
            batch_norm=ARMS[arm],
            learning_rate=rate,
            seed=seed,
            steps=steps,
            evaluate_at=points,
            percentiles_at=points,
        )

    def plan(self, scale):
        return [self.run(scale, arm, rate, 1) for arm in ARMS for rate in self.rates]

    def choose(self, results, scale):
        return {arm: best_rate({rate: [results[self.run(scale, arm, rate, 1)]] for rate in self.rates}) for arm in ARMS}

    def follow_up(self, results, scale):
        """The other seeds, at the learning rate that was best for the first."""
        best = self.choose(results, scale)
        return [self.run(scale, arm, best[arm], seed) for arm in ARMS for seed in scale.seed_numbers()[1:]]

    @staticmethod
    def drift(result):
        """How far the median of a unit's input wanders after a tenth of the training, in units of its own spread."""
        entries = [e for e in result["percentiles"] if e["step"] >= 0.1 * result["percentiles"][-1]["step"]]
        drifts = []
        for unit in range(len(entries[0]["values"][0])):
            medians = [entry["values"][1][unit] for entry in entries]
            widths = [(entry["values"][2][unit] - entry["values"][0][unit]) / 2 for entry in entries]
            drifts.append(statistics.pstdev(medians) / max(mean(widths), 1e-9))
        return mean(drifts)

    def measure(self, results, scale):
        best = self.choose(results, scale)
        runs = {arm: [results[self.run(scale, arm, best[arm], seed)] for seed in scale.seed_numbers()] for arm in ARMS}
        ends = {arm: spread(final(run) for run in runs[arm]) for arm in ARMS}
        drifts = {arm: spread(self.drift(run) for run in runs[arm]) for arm in ARMS}
        target = math.floor(98 * min(ends[arm]["mean"] for arm in ARMS)) / 100
        reached = {arm: [steps_to(run, target) for run in runs[arm]] for arm in ARMS}
        unit_curves = {}
        for arm in ARMS:
            entries = runs[arm][0]["percentiles"]
            unit_curves[arm] = {
                "step": [entry["step"] for entry in entries],
                "percentiles": [[entry["values"][i][0] for entry in entries] for i in range(3)],
            }
        faster, higher = clearly_fewer(reached[WITH], reached[WITHOUT]), clearly_more(ends[WITH], ends[WITHOUT])
        lower = clearly_more(ends[WITHOUT], ends[WITH])
        calmer = clearly_more(drifts[WITHOUT], drifts[WITH])
        sentence = (
            f"To reach {percent(target, 0)} takes {steps_described(reached[WITH])} with it, "
            f"{steps_described(reached[WITHOUT])} without{'' if faster else ' (no clear difference)'}. "
            f"It ends at {percent_spread(ends[WITH])} after "
            f"{self.steps(scale):,} "
            f"steps, without at {percent_spread(ends[WITHOUT])}. "
            + (
                ""
                if higher
                else "So it ends lower here. "
                if lower
                else "The ends differ by no more than the seeds do. "
            )
            + f"The median of a unit's input wanders by {drifts[WITH]['mean']:.2f} of its spread, without by "
            f"{drifts[WITHOUT]['mean']:.2f}."
        )
        return {
            "held": verdict(faster, higher, calmer),
            "sentence": sentence,
            "measured": {
                "best learning rate": best,
                "final test accuracy": ends,
                "drift of the median": drifts,
                "target": target,
                "steps to the target": reached,
            },
            "series": {"curves": {arm: curves(runs[arm]) for arm in ARMS}, "unit": unit_curves, "best": best},
        }


class LearningRates:
    """Faster convergence by higher learning rates."""

    id = "2_learning_rates"
    title = "Does it allow higher learning rates, and learn faster?"
    claim = (
        "With batch normalization higher learning rates train, at its best one it is faster, and the speed "
        "comes from the higher rate"
    )
    source = "Bjorck et al. 2018 (arXiv 1806.02375), section 2 and figure 1; Ioffe and Szegedy 2015, section 3.3"
    rates = (0.003, 0.01, 0.03, 0.1, 0.3, 1, 3)

    def steps(self, scale):
        return scale.steps(2000)

    def run(self, scale, arm, rate, seed):
        steps = self.steps(scale)
        return settings(
            scale,
            batch_norm=ARMS[arm],
            learning_rate=rate,
            seed=seed,
            steps=steps,
            evaluate_at=scale.points_up_to(steps),
        )

    def plan(self, scale):
        return [self.run(scale, arm, r, seed) for arm in ARMS for r in self.rates for seed in scale.seed_numbers()]

    def measure(self, results, scale):
        runs = {
            arm: {
                rate: [results[self.run(scale, arm, rate, seed)] for seed in scale.seed_numbers()]
                for rate in self.rates
            }
            for arm in ARMS
        }
        best = {arm: best_rate(runs[arm]) for arm in ARMS}
        ends = {arm: {rate: spread(final(run) for run in runs[arm][rate]) for rate in self.rates} for arm in ARMS}
        target = math.floor(98 * ends[WITHOUT][best[WITHOUT]]["mean"]) / 100
        reached = {arm: [steps_to(run, target) for run in runs[arm][best[arm]]] for arm in ARMS}
        same_rate = [steps_to(run, target) for run in runs[WITH][best[WITHOUT]]]
        enough = {arm: TRAINS * ends[arm][best[arm]]["mean"] for arm in ARMS}
        largest = {arm: max(rate for rate in self.rates if ends[arm][rate]["mean"] >= enough[arm]) for arm in ARMS}
        at_same = average(same_rate)
        wider = largest[WITH] > largest[WITHOUT]
        faster = clearly_fewer(reached[WITH], reached[WITHOUT])
        # It would come from the rate alone if at the same rate there were hardly anything to gain.
        by_rate = best[WITH] > best[WITHOUT] and at_same > 0.8 * average(reached[WITHOUT])
        described = {arm: steps_described(reached[arm]) for arm in ARMS}
        sentence = (
            f"To reach {percent(target, 0)} takes {described[WITH]} with it, at its best rate of {best[WITH]:g}, and "
            f"{described[WITHOUT]} without, at {best[WITHOUT]:g}. The largest rate that trains is "
            f"{largest[WITH]:g} with "
            f"it and {largest[WITHOUT]:g} without. "
            + (
                f"At {best[WITHOUT]:g} it takes {at_same:,.0f} steps with it"
                + (
                    ", hardly fewer than without: the speed comes from the rate."
                    if by_rate
                    else ": here it is faster at the same rate too, so that the speed is not the rate's alone."
                )
                if math.isfinite(at_same)
                else f"At {best[WITHOUT]:g} not all seeds reach it with it."
            )
        )
        return {
            "held": verdict(wider, faster, by_rate),
            "sentence": sentence,
            "measured": {
                "target": target,
                "best learning rate": best,
                "largest learning rate that trains": largest,
                "steps to the target": reached,
                "steps to the target with batch norm at the best rate without": same_rate,
                "test accuracy at the best learning rate": {arm: ends[arm][best[arm]] for arm in ARMS},
            },
            "series": {
                "rates": list(self.rates),
                "target": target,
                "best": best,
                "final": {arm: [[final(run) for run in runs[arm][rate]] for rate in self.rates] for arm in ARMS},
                "steps": {
                    arm: [[steps_to(run, target) for run in runs[arm][rate]] for rate in self.rates] for arm in ARMS
                },
            },
        }


class Initialization:
    """Less dependence on initialization."""

    id = "3_initialization"
    title = "Does the scale of the initial weights matter less?"
    claim = "With batch normalization the network trains from initial weights of a wider range of scales"
    source = "Ioffe and Szegedy 2015, sections 1 and 3.3"
    scales = (0.01, 0.1, 1, 10, 100)
    rates = (0.001, 0.01, 0.1, 1, 10)

    def steps(self, scale):
        return scale.steps(600)

    def run(self, scale, arm, weight_scale, rate, seed):
        steps = self.steps(scale)
        return settings(
            scale,
            batch_norm=ARMS[arm],
            weight_scale=weight_scale,
            learning_rate=rate,
            seed=seed,
            steps=steps,
            evaluate_at=scale.points_up_to(steps, 6 if scale.name == "quick" else 8),
        )

    def plan(self, scale):
        return [
            self.run(scale, arm, weight_scale, rate, seed)
            for arm in ARMS
            for weight_scale in self.scales
            for rate in self.rates
            for seed in scale.seed_numbers()
        ]

    def measure(self, results, scale):
        runs = {
            arm: {
                s: {r: [results[self.run(scale, arm, s, r, seed)] for seed in scale.seed_numbers()] for r in self.rates}
                for s in self.scales
            }
            for arm in ARMS
        }
        best = {arm: {s: best_rate(runs[arm][s]) for s in self.scales} for arm in ARMS}
        ends = {arm: {s: spread(final(run) for run in runs[arm][s][best[arm][s]]) for s in self.scales} for arm in ARMS}
        top = max(ends[arm][s]["mean"] for arm in ARMS for s in self.scales)
        trained = {arm: [s for s in self.scales if ends[arm][s]["mean"] >= TRAINS * top] for arm in ARMS}
        settings_trained = {
            arm: sum(
                mean(final(run) for run in runs[arm][s][r]) >= TRAINS * top for s in self.scales for r in self.rates
            )
            for arm in ARMS
        }
        pairs = len(self.scales) * len(self.rates)
        lowest = {arm: min(ends[arm][s]["mean"] for s in self.scales) for arm in ARMS}
        wider = len(trained[WITH]) > len(trained[WITHOUT])
        steadier = settings_trained[WITH] > settings_trained[WITHOUT]
        everywhere = len(trained[WITH]) == len(self.scales)
        sentence = (
            f"Each at its best learning rate, {len(trained[WITH])} of the {len(self.scales)} scales come within a "
            "tenth of "
            f"the best accuracy with it, {len(trained[WITHOUT])} without; the worst ends at "
            f"{percent(lowest[WITH])} and "
            f"{percent(lowest[WITHOUT])}. Of all {pairs} pairs of rate and scale {settings_trained[WITH]} train "
            "with it, "
            f"{settings_trained[WITHOUT]} without"
            + ("." if everywhere else "; so the range is wider, and not without end.")
        )
        return {
            "held": verdict(wider, steadier),
            "sentence": sentence,
            "measured": {
                "scales that train": trained,
                "pairs that train": settings_trained,
                "best learning rate": stringed(best),
                "final test accuracy": stringed(ends),
            },
            "series": {
                "scales": list(self.scales),
                "rates": list(self.rates),
                "final": {
                    arm: [[final(run) for run in runs[arm][s][best[arm][s]]] for s in self.scales] for arm in ARMS
                },
                "grid": {arm: [[curves(runs[arm][s][r]) for r in self.rates] for s in self.scales] for arm in ARMS},
            },
        }


def stringed(nested):
    """JSON's objects have strings for keys."""
    if isinstance(nested, dict):
        return {key if isinstance(key, str) else f"{key:g}": stringed(value) for key, value in nested.items()}
    return nested


def verdict(*parts):
    if all(parts):
        return "held"
    return "partly" if any(parts) else "not held"
