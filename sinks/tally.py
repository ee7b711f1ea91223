"""What windows leave behind when they are counted into an hour or a day.

A tally is added to another one by adding its counts. Everything in it is whole numbers (concentrations in
millionths of a ug/m3, which is what estimates are rounded to, times milliseconds), so that the sum of windows
is the same in whatever order and portions they come: counted before a crash or after it, on time or late.

A window that was counted cannot be taken out again: its own numbers are gone. So the ends and revisions of
the windows counted into a day are kept beside its tally (`Counted`), and tell a window that is new from one
that was there.
"""

import json
import zlib
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple, Self, TypeVar

from schemas.base import to_ms
from schemas.estimate import Estimate, IndexBlock, PollutantEstimate

_MICRO: Final = 1_000_000
_N = TypeVar("_N", int, float)


class PollutantTally(NamedTuple):
    """A pollutant in some windows: windows of each kind, and lengths in ms of those with a value."""

    ms: int = 0
    total: int = 0  #: value times length: 1e-6 ug/m3 x ms
    least: float | None = None  #: ug/m3
    greatest: float | None = None
    measured: int = 0
    corrected: int = 0
    imputed: int = 0
    imputed_ms: int = 0

    @classmethod
    def of(cls, pollutant: PollutantEstimate, ms: int) -> Self:
        """One window of length `ms`."""
        kind = pollutant.kind
        return cls(
            ms, round(pollutant.value * _MICRO) * ms, pollutant.value, pollutant.value,
            int(kind == "measured"), int(kind == "corrected"), int(kind == "imputed"),
            ms if kind == "imputed" else 0,
        )  # fmt: skip

    def plus(self, other: "PollutantTally") -> "PollutantTally":
        """Both."""
        return PollutantTally(
            self.ms + other.ms, self.total + other.total,
            _least(self.least, other.least), _greatest(self.greatest, other.greatest),
            self.measured + other.measured, self.corrected + other.corrected, self.imputed + other.imputed,
            self.imputed_ms + other.imputed_ms,
        )  # fmt: skip

    @property
    def windows(self) -> int:
        """Windows with a value."""
        return self.measured + self.corrected + self.imputed

    @property
    def mean(self) -> float | None:
        """Mean weighted by length, ug/m3."""
        return self.total / (_MICRO * self.ms) if self.ms else None

    @property
    def imputed_share(self) -> float:
        """Share of the length that was imputed."""
        return self.imputed_ms / self.ms if self.ms else 0.0


class IndexTally(NamedTuple):
    """An index by one standard in some windows; lengths in ms of those that have the index."""

    ms: int = 0
    total: int = 0  #: index times length
    least: int | None = None
    greatest: int | None = None
    last: int | None = None  #: the newest index, and the end of its window
    last_end: int = 0
    windows: int = 0
    valid: int = 0
    declared_ms: int = 0  #: length of the windows that have a block of the standard, with an index or without
    imputed: int = 0  #: imputed share times length, in millionths x ms

    @classmethod
    def of(cls, block: IndexBlock, ms: int, end: int) -> Self:
        """One window of length `ms` that ends at `end` (ms)."""
        index = block.index
        known = index is not None
        return cls(
            ms if known else 0, 0 if index is None else index * ms, index, index,
            index, end if known else 0, int(known), int(block.status == "valid"),
            ms, round(block.imputed_share * _MICRO) * ms,
        )  # fmt: skip

    def plus(self, other: "IndexTally") -> "IndexTally":
        """Both."""
        newest = max(self, other, key=lambda one: one.last_end)
        return IndexTally(
            self.ms + other.ms, self.total + other.total,
            _least(self.least, other.least), _greatest(self.greatest, other.greatest),
            newest.last, newest.last_end, self.windows + other.windows, self.valid + other.valid,
            self.declared_ms + other.declared_ms, self.imputed + other.imputed,
        )  # fmt: skip

    @property
    def mean(self) -> float | None:
        """Mean weighted by length, points of the standard."""
        return self.total / self.ms if self.ms else None

    @property
    def imputed_share(self) -> float:
        """Share of the index's input that was imputed."""
        return self.imputed / (_MICRO * self.declared_ms) if self.declared_ms else 0.0


class Tally(NamedTuple):
    """Some windows of one station, each counted once."""

    windows: int = 0
    revision: int = 0  #: sum of the windows' revisions
    lead: str = ""  #: the leading standard of the newest window that has one, and that window's end
    lead_end: int = 0
    pollutants: Mapping[str, PollutantTally] = {}
    indices: Mapping[str, IndexTally] = {}

    @classmethod
    def of(cls, estimates: Iterable[Estimate], withdrawn: Iterable[str] = ()) -> "Tally":
        """The newest revisions of windows; standards `withdrawn` from any of them count as being there."""
        windows = revision = lead_end = 0
        lead = ""
        pollutants: dict[str, PollutantTally] = {}
        indices = {standard: IndexTally() for standard in sorted(withdrawn)}
        for estimate in estimates:
            end = to_ms(estimate.window.end)
            ms = end - to_ms(estimate.window.start)
            windows += 1
            revision += estimate.revision
            for name, pollutant in estimate.pollutants.items():
                one = PollutantTally.of(pollutant, ms)
                pollutants[name] = pollutants[name].plus(one) if name in pollutants else one
            for block in estimate.indices:
                counted = IndexTally.of(block, ms, end)
                there = indices.get(block.standard)
                indices[block.standard] = counted if there is None else there.plus(counted)
            if estimate.indices and end > lead_end:
                lead, lead_end = estimate.indices[0].standard, end
        return cls(windows, revision, lead, lead_end, pollutants, indices)

    def plus(self, other: "Tally") -> "Tally":
        """The windows of both."""
        newest = max(self, other, key=lambda one: one.lead_end)
        pollutants, indices = dict(self.pollutants), dict(self.indices)
        for name, pollutant in other.pollutants.items():
            pollutants[name] = pollutants[name].plus(pollutant) if name in pollutants else pollutant
        for name, index in other.indices.items():
            indices[name] = indices[name].plus(index) if name in indices else index
        return Tally(
            self.windows + other.windows, self.revision + other.revision, newest.lead, newest.lead_end,
            pollutants, indices,
        )  # fmt: skip

    def to_json(self) -> str:
        """For the store; the same windows give the same text."""
        return json.dumps(
            {
                "n": self.windows, "r": self.revision, "l": [self.lead, self.lead_end],
                "p": dict(sorted(self.pollutants.items())), "i": dict(sorted(self.indices.items())),
            },
            separators=(",", ":"),
        )  # fmt: skip

    @classmethod
    def from_json(cls, text: str) -> "Tally":
        """What `to_json` wrote."""
        kept: dict[str, Any] = json.loads(text)
        lead, lead_end = kept["l"]
        return cls(
            kept["n"], kept["r"], lead, lead_end,
            {name: PollutantTally(*one) for name, one in kept["p"].items()},
            {name: IndexTally(*one) for name, one in kept["i"].items()},
        )  # fmt: skip


class Counted:
    """The windows that were counted into a day: end (ms) and revision of each."""

    def __init__(self, kept: bytes | None = None) -> None:
        self._revisions: dict[int, int] = {}
        if kept is not None:
            first, steps, revisions = json.loads(zlib.decompress(kept))
            end = first
            for step, revision in zip(steps, revisions, strict=True):
                end += step
                self._revisions[end] = revision

    def to_bytes(self) -> bytes:
        """For the store: 0.3 to 1 kB for a day of minutes."""
        ends = sorted(self._revisions)
        first = ends[0] if ends else 0
        steps = [end - before for end, before in zip(ends, [first, *ends], strict=False)]
        revisions = [self._revisions[end] for end in ends]
        return zlib.compress(json.dumps([first, steps, revisions], separators=(",", ":")).encode(), 6)

    def add(self, end: int, revision: int) -> None:
        """A window's numbers are in the tally."""
        self._revisions[end] = revision

    def newest(self, end: int) -> int | None:
        """The highest revision that was seen of a window, counted or not; None for a window never seen."""
        found = self._revisions.get(end)
        return None if found is None else abs(found)

    def miss(self, end: int, revision: int) -> None:
        """A higher revision of a counted window came: the tally still has the numbers of the one before."""
        self._revisions[end] = -revision

    def missed(self, start: int, stop: int) -> int:
        """Windows in (start, stop] whose newest revision is not in the tally."""
        return sum(revision < 0 for end, revision in self._revisions.items() if start < end <= stop)


def _least(one: _N | None, other: _N | None) -> _N | None:
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)


def _greatest(one: _N | None, other: _N | None) -> _N | None:
    if one is None or other is None:
        return other if one is None else one
    return max(one, other)
