"""Figures: medians, spread, and which rounds were disturbed. Knows no server and no clock."""
from dataclasses import dataclass, field


def median(values):
    ordered = sorted(values)
    middle = len(ordered) // 2
    if len(ordered) % 2:
        return ordered[middle]
    return (ordered[middle - 1] + ordered[middle]) / 2


@dataclass
class Sample:
    """One run of one server: its figures by name, and what other programs took meanwhile."""
    figures: dict
    foreign: float = 0.0  # share of the processors that were used by others
    disturbed: str = ""  # why the run should not count; "": it should


@dataclass
class Cell:
    """All runs of one server in one row of a workload."""
    samples: list = field(default_factory=list)  # those that count
    repeated: int = 0  # runs that were disturbed and done again

    @property
    def kept_disturbed(self):
        return sum(1 for sample in self.samples if sample.disturbed)

    def values(self, figure):
        return [sample.figures[figure] for sample in self.samples
                if sample.figures.get(figure) is not None]

    def summary(self, figure):
        """(median, min, max), or None where it was not measured."""
        values = self.values(figure)
        return (median(values), min(values), max(values)) if values else None

    def median(self, figure):
        summary = self.summary(figure)
        return summary[0] if summary else None


# Others took more of the processors than this: the run is repeated.
FOREIGN_MAX = 0.05
# A figure so many times above or below the median of the rounds before it is not believed at once.
WILD = 1.5
REPEATS_MAX = 2


def disturbance(sample, before, figure, foreign_max=FOREIGN_MAX):
    """Why a run should be repeated, or "". `before`: the same figure in earlier rounds."""
    if sample.foreign > foreign_max:
        return f"others took {sample.foreign:.0%} of the processors"
    value = sample.figures.get(figure)
    if value is None or len(before) < 2:
        return ""
    usual = median(before)
    if usual and not usual / WILD <= value <= usual * WILD:
        return f"{value:.4g} where {usual:.4g} is usual"
    return ""


def measure_round(cell, run, figure, foreign_max=FOREIGN_MAX):
    """Adds one round to a cell. A disturbed run is repeated; when none is quiet, the one with the
    fewest others beside it is kept, and marked."""
    attempts = []
    while len(attempts) <= REPEATS_MAX:
        sample = run()
        sample.disturbed = disturbance(sample, cell.values(figure), figure, foreign_max)
        attempts.append(sample)
        if not sample.disturbed:
            break
    cell.repeated += len(attempts) - 1
    kept = attempts[-1] if not attempts[-1].disturbed else \
        min(attempts, key=lambda sample: sample.foreign)
    cell.samples.append(kept)
    return kept
