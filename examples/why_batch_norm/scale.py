"""How much is trained: --quick, the default, --full."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Scale:
    name: str
    steps_factor: float  # of the steps of every run but those of the first panel
    first_panel_steps: int
    seeds: int
    side: int  # pixels a side, in all panels but the first, where the images are so large that they can be halved
    validation: int
    test: int
    points: int  # how often a run is measured

    def steps(self, count):
        return max(2, int(round(count * self.steps_factor)))

    def points_up_to(self, steps, points=None):
        """Steps at which a run is measured: denser at the start, where more happens, and thrice in the last tenth."""
        points = points or self.points
        late = {max(1, round(steps * share)) for share in (0.9, 0.95, 1)}
        return sorted(late | {max(1, round(steps * (i / points) ** 2)) for i in range(1, points)})

    def seed_numbers(self):
        return list(range(1, self.seeds + 1))


QUICK = Scale("quick", 0.1, 300, 2, 14, 500, 1000, 6)
DEFAULT = Scale("default", 1, 10000, 3, 14, 2000, 5000, 14)
FULL = Scale("full", 5, 50000, 5, 28, 5000, 10000, 25)
