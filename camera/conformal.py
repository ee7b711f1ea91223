"""Adaptive conformal intervals for streams: bounded memory, one number a condition.

Gibbs and Candes (2021) keep the coverage of a stream right under drift by moving the level after each
outcome; here, as in Angelopoulos, Candes and Tibshirani (2023, quantile tracking), the threshold itself
is moved, so that no scores need be kept. The threshold lives on a log scale: q <- q * exp(step *
(missed - alpha)). After T outcomes the share of misses differs from alpha by |log(q_T / q_0)| / (step *
T) whatever the data do, and a jump of the errors' size by a factor f is followed within about log(f) /
(step * (1 - alpha)) misses.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from schemas.errors import ArrayError

#: Nominal share of misses.
ALPHA: Final = 0.1
#: Step on the log threshold: it doubles after 16 misses in a row and halves after 139 hits.
STEP: Final = 0.05
#: Threshold at the start: of an error whose standard deviation is estimated from 16 errors (Student's t, 15
#: degrees of freedom). That of a Gaussian, 1.645, was too narrow until a tracker had seen enough misses.
START: Final = 1.7530503556925547
#: The threshold stays within these, so that no run of luck or of nonsense takes it out of reach.
BOUNDS: Final = (0.05, 60.0)
#: Conditions kept; the one longest unused makes room.
CONDITIONS: Final = 64
#: Memory of the rolling coverage, in outcomes.
ROLLING: Final = 100


@dataclass(frozen=True, slots=True)
class Tracker:
    """Threshold of one condition.

    Attributes:
        threshold: score within which the next outcome lies with probability 1 - alpha.
        count: outcomes so far.
        rolling: coverage over about the last `ROLLING` outcomes (of all, while they are fewer).
    """

    threshold: float = START
    count: int = 0
    rolling: float = 1.0 - ALPHA

    def after(self, score: float) -> "Tracker":
        """The tracker after an outcome with this score (error over expected error, 0 or more)."""
        if not score >= 0.0:
            raise ArrayError(f"a conformal score is 0 or more, got {score}")
        missed = 1.0 if score > self.threshold else 0.0
        threshold = self.threshold * math.exp(STEP * (missed - ALPHA))
        count = self.count + 1
        rolling = self.rolling + ((1.0 - missed) - self.rolling) / min(count, ROLLING)
        return Tracker(min(max(threshold, BOUNDS[0]), BOUNDS[1]), count, rolling)


@dataclass(frozen=True, slots=True)
class Conformal:
    """Trackers by condition (for instance a mask pattern), the most recently used last."""

    trackers: tuple[tuple[str, Tracker], ...] = ()

    def of(self, condition: str) -> Tracker:
        """The tracker of a condition, a fresh one if it was never seen."""
        return dict(self.trackers).get(condition, Tracker())

    def after(self, condition: str, score: float) -> "Conformal":
        """The state after an outcome under a condition."""
        moved = (condition, self.of(condition).after(score))
        kept = tuple(item for item in self.trackers if item[0] != condition)
        return replace(self, trackers=(*kept, moved)[-CONDITIONS:])


def pattern(present: Mapping[str, bool]) -> str:
    """Condition name of a mask pattern: the names of what is present, sorted, joined by '+' ('none' if
    nothing is).
    """
    return "+".join(sorted(name for name, there in present.items() if there)) or "none"
