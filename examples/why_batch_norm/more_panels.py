"""The claims about what batch normalization does inside a network and at inference; see panels.py."""

import math

from panels import ARMS, WITH, WITHOUT, best_rate, curves, final, mean, number, percent, points
from panels import clearly_more, settings, spread, stringed, verdict


class Gradients:
    """Gradients that neither vanish nor explode."""

    id = "4_gradients"
    title = "Does it keep gradients from vanishing and exploding?"
    claim = (
        "In 20 layers no layer's gradient vanishes or explodes, at the start and after 200 steps, whatever "
        "the initial weights"
    )
    source = (
        "Ioffe and Szegedy 2015, section 3.3; against it Yang et al. 2019 (arXiv 1902.08129): they grow from "
        "layer to layer"
    )
    scales = (0.5, 1, 2)
    depth = 20
    smallest, largest = 1e-2, 1e2  # beyond these norms a gradient is taken to have vanished or exploded
    bound = 10  # the factor between the first and the last hidden layer that is taken to be none

    def steps(self, scale):
        return 60 if scale.name == "quick" else 200

    def run(self, scale, arm, weight_scale, seed):
        steps = self.steps(scale)
        return settings(
            scale,
            hidden=[100] * self.depth,
            batch_norm=ARMS[arm],
            weight_scale=weight_scale,
            learning_rate=0.01,
            seed=seed,
            steps=steps,
            evaluate_at=[],
            gradient_norms_at=[0, steps],
        )

    def plan(self, scale):
        return [self.run(scale, arm, s, seed) for arm in ARMS for s in self.scales for seed in scale.seed_numbers()]

    def measure(self, results, scale):
        times = (0, self.steps(scale))
        norms, diverged = {}, {arm: 0 for arm in ARMS}
        for arm in ARMS:
            norms[arm] = {}
            for s in self.scales:
                runs = [results[self.run(scale, arm, s, seed)] for seed in scale.seed_numbers()]
                diverged[arm] += sum(run["diverged"] for run in runs)
                norms[arm][s] = {
                    at: [
                        entry["norms"]
                        for run in runs
                        for entry in run["gradient_norms"]
                        if entry["step"] == at and None not in entry["norms"]
                    ]
                    for at in times
                }
        ends = {
            arm: {at: extremes(n for s in self.scales for run in norms[arm][s][at] for n in run) for at in times}
            for arm in ARMS
        }
        ratio = {
            at: geometric_mean(
                run[0] / run[self.depth - 1] for s in self.scales for run in norms[WITH][s][at] if min(run) > 0
            )
            for at in times
        }
        inside = diverged[WITH] == 0 and all(
            self.smallest <= low and high <= self.largest for low, high in ends[WITH].values()
        )
        even = all(1 / self.bound <= r <= self.bound for r in ratio.values())

        def described(at):
            return ", ".join(
                f"from {number(ends[arm][at][0])} to {number(ends[arm][at][1])} "
                f"{'with it' if arm == WITH else 'without'}"
                for arm in ARMS
            )

        sentence = (
            f"The norms of all layers at all three scales range {described(0)}; after {times[1]} steps "
            f"{described(times[1])}"
            + (
                f", where {diverged[WITHOUT]} of {len(self.scales) * scale.seeds} runs diverged. "
                if diverged[WITHOUT]
                else ". "
            )
            + f"With it the first layer's norm is {number(ratio[0])} times the 20th's at the start"
            + (
                f", {ratio[0] ** (1 / (self.depth - 1)):.2f} a layer, as Yang et al. say,"
                if ratio[0] > self.bound
                else ""
            )
            + f" and {number(ratio[times[1]])} times after {times[1]} steps."
        )
        return {
            "held": verdict(inside, even) if inside else "not held",
            "sentence": sentence,
            "measured": {
                "smallest and largest norm": stringed(ends),
                "runs that diverged": diverged,
                "first layer's norm over the 20th's with batch norm": stringed(ratio),
            },
            "series": {"scales": list(self.scales), "steps": times[1], "norms": stringed(norms), "diverged": diverged},
        }


def extremes(values):
    """The least and the largest; 0 and 0 of none, where every run diverged."""
    values = list(values)
    return [min(values), max(values)] if values else [0.0, 0.0]


def geometric_mean(values):
    logarithms = [math.log10(value) for value in values]
    return 10 ** mean(logarithms) if logarithms else 0.0


class Regularization:
    """Regularization, beside dropout."""

    id = "5_regularization"
    title = "Does it regularize, in dropout's place?"
    claim = (
        "With batch normalization the gap between training and test accuracy is smaller, so that dropout can "
        "be left out"
    )
    source = "Ioffe and Szegedy 2015, section 3.4"
    arms = {
        "neither": {"batch_norm": False, "dropout": 0},
        "batch norm": {"batch_norm": True, "dropout": 0},
        "dropout": {"batch_norm": False, "dropout": 0.3},
        "both": {"batch_norm": True, "dropout": 0.3},
    }
    rates = (0.1, 0.3, 1)

    def run(self, scale, arm, rate, seed):
        steps = scale.steps(1200)
        return settings(
            scale,
            **self.arms[arm],
            learning_rate=rate,
            seed=seed,
            steps=steps,
            train_images=2000,
            evaluate_at=scale.points_up_to(steps, 6 if scale.name == "quick" else 8),
            training_accuracy=True,
        )

    def plan(self, scale):
        return [self.run(scale, arm, r, seed) for arm in self.arms for r in self.rates for seed in scale.seed_numbers()]

    def measure(self, results, scale):
        runs = {
            arm: {
                rate: [results[self.run(scale, arm, rate, seed)] for seed in scale.seed_numbers()]
                for rate in self.rates
            }
            for arm in self.arms
        }
        best = {arm: best_rate(runs[arm]) for arm in self.arms}
        chosen = {arm: runs[arm][best[arm]] for arm in self.arms}
        train = {arm: spread(final(run, "training") for run in chosen[arm]) for arm in self.arms}
        test = {arm: spread(final(run) for run in chosen[arm]) for arm in self.arms}
        gap = {arm: spread(final(run, "training") - final(run) for run in chosen[arm]) for arm in self.arms}
        smaller = clearly_more(gap["neither"], gap["batch norm"])
        better = clearly_more(test["batch norm"], test["neither"])
        spares = not clearly_more(test["dropout"], test["batch norm"])
        gaps = {arm: points(gap[arm]["mean"]) for arm in self.arms}
        sentence = (
            f"The gap is {gaps['batch norm']} points with it, {gaps['neither']} with neither, {gaps['dropout']} with "
            f"dropout, {gaps['both']} with both; test accuracy {percent(test['batch norm']['mean'])}, "
            f"{percent(test['neither']['mean'])}, {percent(test['dropout']['mean'])}, {percent(test['both']['mean'])}. "
            + ("The gap is smaller" if smaller else "The gap is not smaller, as it fits the training images better")
            + f"; the test accuracy is {'' if better else 'not clearly '}higher than with neither, and "
            + ("not below dropout's." if spares else "below dropout's.")
        )
        return {
            "held": verdict(smaller, spares),
            "sentence": sentence,
            "measured": {"best learning rate": best, "training accuracy": train, "test accuracy": test, "gap": gap},
            "series": {
                "arms": list(self.arms),
                "train": [[final(run, "training") for run in chosen[arm]] for arm in self.arms],
                "test": [[final(run) for run in chosen[arm]] for arm in self.arms],
                "curves": {
                    arm: {"training": curves(chosen[arm], "training"), "test": curves(chosen[arm])} for arm in self.arms
                },
            },
        }


class Affine:
    """Gamma and beta."""

    id = "6_gamma_beta"
    title = "Do gamma and beta keep what the network can represent?"
    claim = (
        "Gamma and beta can undo the normalization, training moves them from 1 and 0, and without them the "
        "network is worse"
    )
    source = "Ioffe and Szegedy 2015, section 3"
    arms = {
        "both learned": {"gamma": True, "beta": True},
        "gamma = 1": {"gamma": False, "beta": True},
        "beta = 0": {"gamma": True, "beta": False},
        "both frozen": {"gamma": False, "beta": False},
    }
    rates = {"sigmoid": (0.3, 1, 3), "relu": (0.03, 0.1, 0.3)}

    def run(self, scale, activation, arm, rate, seed):
        steps = scale.steps(1200)
        return settings(
            scale,
            activation=activation,
            **self.arms[arm],
            learning_rate=rate,
            seed=seed,
            steps=steps,
            evaluate_at=scale.points_up_to(steps, 6),
            parameters=True,
        )

    def plan(self, scale):
        return [
            self.run(scale, activation, arm, rate, seed)
            for activation, rates in self.rates.items()
            for arm in self.arms
            for rate in rates
            for seed in scale.seed_numbers()
        ]

    def measure(self, results, scale):
        chosen, best = {}, {}
        for activation, rates in self.rates.items():
            chosen[activation], best[activation] = {}, {}
            for arm in self.arms:
                runs = {
                    r: [results[self.run(scale, activation, arm, r, seed)] for seed in scale.seed_numbers()]
                    for r in rates
                }
                best[activation][arm] = best_rate(runs)
                chosen[activation][arm] = runs[best[activation][arm]]
        test = {a: {arm: spread(final(run) for run in chosen[a][arm]) for arm in self.arms} for a in self.rates}
        free = {a: [run["parameters"] for run in chosen[a]["both learned"]] for a in self.rates}
        gammas = {a: [g for p in free[a] for layer in p["gamma"] for g in layer] for a in self.rates}
        betas = {a: [b for p in free[a] for layer in p["beta"] for b in layer] for a in self.rates}
        moved = {
            a: {"mean |gamma - 1|": mean(abs(g - 1) for g in gammas[a]), "mean |beta|": mean(map(abs, betas[a]))}
            for a in self.rates
        }
        identity = max(p["identity_error"] for a in self.rates for p in free[a])
        cost = {a: test[a]["both learned"]["mean"] - test[a]["both frozen"]["mean"] for a in self.rates}
        noise = {
            a: math.hypot(test[a]["both learned"]["deviation"], test[a]["both frozen"]["deviation"]) for a in self.rates
        }
        costs = {a: clearly_more(test[a]["both learned"], test[a]["both frozen"]) for a in self.rates}
        ending = {
            (True, True): ".",
            (True, False): ", so that it matters to the sigmoids alone.",
            (False, True): ", so that it matters to the ReLUs alone.",
            (False, False): ", so that it does not matter here.",
        }[costs["sigmoid"], costs["relu"]]
        sentence = (
            f"Set to sqrt(variance + epsilon) and the mean they undo the normalization to {identity:.0e} of the "
            "largest value. "
            f"Training moves gamma by {moved['sigmoid']['mean |gamma - 1|']:.2f} (sigmoid) and "
            f"{moved['relu']['mean |gamma - 1|']:.2f} (ReLU) in the mean, beta by "
            f"{moved['sigmoid']['mean |beta|']:.2f} and "
            f"{moved['relu']['mean |beta|']:.2f}. Freezing both costs {points(cost['sigmoid'])} and "
            f"{points(cost['relu'])} "
            f"points of test accuracy (the spread over the seeds is {points(noise['sigmoid'])} and "
            f"{points(noise['relu'])})" + ending
        )
        return {
            "held": verdict(identity < 1e-5, *costs.values()),
            "sentence": sentence,
            "measured": {
                "error of the identity": identity,
                "moved": moved,
                "best learning rate": best,
                "test accuracy": test,
                "cost of freezing both": cost,
            },
            "series": {
                "gammas": gammas,
                "betas": betas,
                "arms": list(self.arms),
                "test": {a: [[final(run) for run in chosen[a][arm]] for arm in self.arms] for a in self.rates},
            },
        }
