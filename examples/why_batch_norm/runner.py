"""Trains the networks of a plan, several at a time, and keeps each result as soon as it is there."""

import collections
import hashlib
import json
import queue
import subprocess
import sys
import threading

import tqdm


class RunError(Exception):
    """What the program that trains has to say of its input."""


def cost(settings, data):
    """About how much arithmetic a run is, for the time that is left."""
    shrink = max(1, min(data["height"], data["width"]) // settings["side"]) if settings.get("side") else 1
    widths = [data["height"] * data["width"] // shrink**2, *settings["hidden"], data["classes"]]
    weights = sum(a * b for a, b in zip(widths, widths[1:]))
    # Small batches keep the processor less busy: 20 samples are added for what each step costs at least.
    trained = 3 * settings["steps"] * (settings["batch_size"] + 20)
    measured = (len(settings["evaluate_at"]) + 1) * (data["validation"] + data["test"])
    if settings.get("training_accuracy"):
        measured += (len(settings["evaluate_at"]) + 1) * data["train"]
    return weights * (trained + measured)


class Results:
    """The results of finished runs, in a file with a line for each, so that a plan that was stopped goes on from there.

    A result belongs to its settings, the data and the very program that made it: another build starts anew.
    """

    def __init__(self, path, program, data_options, fresh):
        self.path = path
        digest = hashlib.sha256(program.read_bytes())
        digest.update(json.dumps(data_options, sort_keys=True).encode())
        self._origin = digest.hexdigest()[:16]
        self._lock = threading.Lock()
        self._results = {}
        if fresh:
            path.unlink(missing_ok=True)
        if not path.exists():
            return
        text = path.read_text(encoding="utf-8")
        if text and not text.endswith("\n"):  # stopped while it wrote: that run is done again
            text = text[: text.rfind("\n") + 1]
            path.write_text(text, encoding="utf-8")
        for line in text.splitlines():
            entry = json.loads(line)
            if entry["origin"] == self._origin:
                self._results[self._key(entry["settings"])] = entry["result"]

    @staticmethod
    def _key(settings):
        return json.dumps(settings, sort_keys=True)

    def __contains__(self, settings):
        return self._key(settings) in self._results

    def __getitem__(self, settings):
        return self._results[self._key(settings)]

    def add(self, settings, result):
        with self._lock:
            self._results[self._key(settings)] = result
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"origin": self._origin, "settings": settings, "result": result}) + "\n")


class Trainer:
    """One process of the program, which trains one run after the other."""

    def __init__(self, command):
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.data = self._read()["data"]

    def _read(self):
        line = self._process.stdout.readline()
        if not line:
            raise RunError(self._process.stderr.read().strip() or "the program that trains stopped without a word")
        return json.loads(line)

    def run(self, settings, on_step):
        """The result of one run; calls on_step(step) now and then."""
        try:
            self._process.stdin.write(json.dumps(settings) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # then its last words are read below
        while True:
            message = self._read()
            if "result" in message:
                return message["result"]
            on_step(message["step"])

    def close(self):
        self._process.kill()
        self._process.communicate()


class Trainers:
    """As many trainers as there are runs at the same time, started once for all plans."""

    def __init__(self, command, count):
        self._all = []
        try:
            for _ in range(count):
                self._all.append(Trainer(command))
        except RunError:
            self.close()
            raise
        self.data = self._all[0].data

    def close(self):
        for trainer in self._all:
            trainer.close()

    def train(self, plan, results, what):
        """Trains what of the plan is not among the results yet, the longest runs first."""
        wanted = unique(plan)
        missing = [settings for settings in wanted if settings not in results]
        if len(missing) < len(wanted):
            print(f"{what}: {len(wanted) - len(missing)} of {len(wanted)} runs were finished before", flush=True)
        if not missing:
            return
        costs = {id(settings): cost(settings, self.data) for settings in missing}
        waiting = queue.SimpleQueue()
        for settings in sorted(missing, key=lambda settings: -costs[id(settings)]):
            waiting.put(settings)
        failures = []
        stop = threading.Event()
        lock = threading.Lock()
        bar = tqdm.tqdm(
            total=sum(costs.values()),
            desc=what,
            mininterval=0.2 if sys.stderr.isatty() else 20,
            dynamic_ncols=True,
            bar_format="{desc}: {percentage:3.0f} % |{bar}| {elapsed} elapsed, {remaining} left{postfix}",
        )
        counts = collections.Counter(done=0)

        def work(trainer):
            while not stop.is_set():
                try:
                    settings = waiting.get_nowait()
                except queue.Empty:
                    return
                whole = costs[id(settings)]
                told = 0

                def advance(share):
                    nonlocal told
                    now = int(whole * share)
                    with lock:
                        bar.update(now - told)
                    told = now

                try:
                    result = trainer.run(settings, lambda step: advance(step / (settings["steps"] + 1)))
                except RunError as error:
                    if not stop.is_set():
                        failures.append(error)
                        stop.set()
                    return
                results.add(settings, result)
                advance(1.0)
                with lock:
                    counts["done"] += 1
                    bar.set_postfix_str(f"run {counts['done']} of {len(missing)}", refresh=False)

        threads = [threading.Thread(target=work, args=(trainer,), daemon=True) for trainer in self._all]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                while thread.is_alive():
                    thread.join(0.2)
        except KeyboardInterrupt:
            stop.set()
            self.close()
            raise
        finally:
            bar.close()
        if failures:
            raise failures[0]


def unique(plan):
    """The plan without what stands in it twice, as two panels may ask for the same run."""
    return list({json.dumps(settings, sort_keys=True): settings for settings in plan}.values())
