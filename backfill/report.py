"""Which windows a backfill is asked for, and what it found and did."""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import NamedTuple

from backfill.windows import Key, WindowOutcome
from datasets.events import Problem
from schemas.times import in_ms


class Scope(NamedTuple):
    """Which windows: their ends in [since, until) (ms), and of one station; only annotated ones, or all."""

    since: int | None = None
    until: int | None = None
    station: str | None = None
    annotated_only: bool = False


class WrongClock(NamedTuple):
    """Values of a clock that was wrong: how many, the first and the last time (ms)."""

    values: int
    first: int
    last: int

    def with_one_at(self, time: int) -> "WrongClock":
        """And one more."""
        return WrongClock(self.values + 1, min(self.first, time), max(self.last, time))


@dataclass
class BackfillReport:
    """What a run found and did."""

    outcomes: list[WindowOutcome] = field(default_factory=list)
    #: Late windows that the worker may still publish itself; of them those that no waiting makes final, since
    #: nothing newer has come on their partition.
    open: set[Key] = field(default_factory=set)
    stranded: set[Key] = field(default_factory=set)
    #: No fusion worker has ever read here.
    never_fused: bool = False
    #: Where and why, of records on the late topic that cannot be used.
    unusable: list[str] = field(default_factory=list)
    #: What of the files could not be used: file and line, and why.
    problems: list[Problem] = field(default_factory=list)
    #: Inputs of the files that counted already, that count now, and that belong to windows left alone.
    known: int = 0
    added: int = 0
    left: int = 0
    #: Windows published again because their averages reach back to others, and stations told to the worker.
    healed: int = 0
    amended: set[str] = field(default_factory=set)
    #: Hours that the workers are not through with: their averages cannot be mended yet.
    in_progress: int = 0
    #: By station, late values of a clock that was wrong.
    of_old: dict[str, WrongClock] = field(default_factory=dict)
    #: Windows that annotated readings belong to, and the sensors that were heard at annotated times.
    annotated: int = 0
    sensors: set[str] = field(default_factory=set)
    #: Event time of the workers: the end of the last final window, ms.
    newest: int = 0

    def older(self, length: timedelta) -> int:
        """How many windows that were published before are to be revised, and older than `length`."""
        last = self.newest - in_ms(length)
        return sum(
            one.verdict == "rewrite" and one.before > 0 and one.key[1] <= last for one in self.outcomes
        )

    def count(self, verdict: str) -> int:
        """How many windows came out so."""
        return sum(outcome.verdict == verdict for outcome in self.outcomes)
