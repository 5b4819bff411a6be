"""The claim about inference; see panels.py."""

from panels import ARMS, WITH, curves, final, mean, percent, settings, spread, stringed, verdict


class Inference:
    """Inference by running averages."""

    id = "7_inference"
    title = "Does inference need the running averages?"
    claim = (
        "By running averages a batch of 1 gives what one of 256 gives; a forgotten eval(), tiny batches and "
        "a momentum too small spoil it"
    )
    source = (
        "Ioffe and Szegedy 2015, section 3.1 and algorithm 2; for tiny batches Wu and He 2018 (arXiv "
        "1803.08494), figure 1"
    )
    momenta = (0.1, 0.01, 0.001)
    batches = (2, 4, 8, 60)
    rates = (0.01, 0.03, 0.1)

    def trained(self, scale, momentum, seed):
        steps = scale.steps(1000)
        return settings(
            scale,
            learning_rate=0.1,
            running_momentum=momentum,
            seed=seed,
            steps=steps,
            evaluate_at=scale.points_up_to(steps),
            inference=momentum == self.momenta[0],
        )

    def tiny(self, scale, arm, batch_size, rate, seed):
        steps = max(4, scale.steps(20000) // batch_size)  # as many images in every run
        return settings(
            scale,
            batch_norm=ARMS[arm],
            learning_rate=rate,
            batch_size=batch_size,
            seed=seed,
            steps=steps,
            evaluate_at=scale.points_up_to(steps, 2),
        )

    def plan(self, scale):
        seeds = scale.seed_numbers()
        return [self.trained(scale, momentum, seed) for momentum in self.momenta for seed in seeds] + [
            self.tiny(scale, arm, size, rate, seed)
            for arm in ARMS
            for size in self.batches
            for rate in self.rates
            for seed in seeds
        ]

    def measure(self, results, scale):
        seeds = scale.seed_numbers()
        runs = {m: [results[self.trained(scale, m, seed)] for seed in seeds] for m in self.momenta}
        found = [run["inference"] for run in runs[self.momenta[0]]]
        same_bits = all(f["batch_of_1_has_the_same_bits"] for f in found)
        same, of = sum(f["same_predictions"] for f in found), sum(f["of_predictions"] for f in found)
        refused = all(f["batch_of_1_is_refused_in_training_mode"] for f in found)
        right = spread(f["accuracy"] for f in found)
        sizes = [entry["batch_size"] for entry in found[0]["training_mode"]]
        forgotten = {
            kind: [[f["training_mode"][i][kind] for f in found] for i in range(len(sizes))]
            for kind in ("shuffled", "sorted")
        }
        tiny_runs = {
            arm: {
                size: {r: [results[self.tiny(scale, arm, size, r, seed)] for seed in seeds] for r in self.rates}
                for size in self.batches
            }
            for arm in ARMS
        }
        tiny = {
            arm: [
                [
                    final(run)
                    for run in max(
                        tiny_runs[arm][size].values(), key=lambda rs: mean(final(r, "validation") for r in rs)
                    )
                ]
                for size in self.batches
            ]
            for arm in ARMS
        }
        lag = {m: spread(final(run) for run in runs[m]) for m in self.momenta}
        at_two = mean(forgotten["shuffled"][1])
        largest = mean(forgotten["sorted"][-1])
        loses_small = mean(tiny[WITH][0]) < mean(tiny[WITH][-1]) - 0.01
        loses_lag = lag[self.momenta[-1]]["mean"] < lag[self.momenta[0]]["mean"] - 0.01
        loses_eval = max(at_two, largest) < right["mean"] - 0.01
        sentence = (
            f"Each layer gives {'the same bits' if same_bits else 'other bits'} for a batch of 1 as for one of "
            f"256, and {same} "
            f"of {of} predictions are the same. A forgotten eval() turns {percent(right['mean'])} into "
            f"{percent(at_two)} in "
            f"batches of 2 and {percent(largest)} in batches of {sizes[-1]} sorted by class"
            + ("; a batch of 1 is refused. " if refused else ". ")
            + f"Trained in batches of 2 it ends at {percent(mean(tiny[WITH][0]))}, of 60 at "
            f"{percent(mean(tiny[WITH][-1]))}; "
            f"with a momentum of {self.momenta[-1]:g} inference is at {percent(lag[self.momenta[-1]]['mean'])}."
        )
        return {
            "held": verdict(same_bits and same == of, loses_eval, loses_small, loses_lag),
            "sentence": sentence,
            "measured": {
                "same bits": same_bits,
                "same predictions": [same, of],
                "accuracy by running averages": right,
                "training mode on a batch of 1 is refused": refused,
                "accuracy by momentum": stringed(lag),
            },
            "series": {
                "sizes": sizes,
                "forgotten": forgotten,
                "right": [f["accuracy"] for f in found],
                "batches": list(self.batches),
                "tiny": tiny,
                "momenta": {f"{m:g}": curves(runs[m]) for m in self.momenta},
            },
        }
