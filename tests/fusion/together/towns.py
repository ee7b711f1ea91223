"""Made towns for the network stage: what fusion would send of them, as a log."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from fusion.together.learning import LEARNED
from fusion.together.meeting import (
    Amended,
    LoggedRecord,
    Meeting,
    MeetingOutput,
    MeetingStand,
    RetiredStation,
)
from fusion.together.progress import MeetingRules
from schemas.alone import Alone, Mark
from schemas.base import from_ms, to_ms
from schemas.estimate import Estimate, Inputs, PollutantEstimate, Window
from schemas.parameters import Pollutant
from schemas.times import HOUR_MS

START = 1_700_000_000_000 // HOUR_MS * HOUR_MS
Content = Alone | Mark | Amended | RetiredStation


def alone(
    station: str,
    end: int,
    values: Mapping[Pollutant, float],
    *,
    revision: int = 1,
    size: int = HOUR_MS,
    source: int = 0,
    imputed: Mapping[Pollutant, tuple[float, float, float]] | None = None,
    qc: int = 1,
    qc_tests: int = 0,
    region: str = "town",
    place: tuple[float, float] | None = (45.0, 9.0),
    method: str = "last",
) -> Alone:
    """A window of a station as fusion has it."""
    pollutants = {
        name: PollutantEstimate(value=value, kind="measured", qc=qc, qc_tests=qc_tests, n=revision)
        for name, value in values.items()
    }
    for name, (value, lo, hi) in (imputed or {}).items():
        pollutants[name] = PollutantEstimate(
            value=value, kind="imputed", qc=9, lo=lo, hi=hi, method=method, weights={method: 1.0}
        )
    estimate = Estimate(
        station=station,
        window=Window(start=from_ms(end - size), end=from_ms(end)),
        revision=revision,
        sides="sensors",
        pollutants=pollutants,
        indices=(),
        inputs=Inputs(readings=revision),
        bundle="none",
    )
    return Alone(
        estimate=estimate,
        source=source,
        region=region,
        latitude=None if place is None else place[0],
        longitude=None if place is None else place[1],
        standards=("us-epa-2024",),
        reference_celsius=25.0,
    )


def marks(final: int, sources: int = 1) -> list[Content]:
    """All sources have come so far."""
    return [Mark(source=source, final=final) for source in range(sources)]


def rules(**changes: int | float | None) -> MeetingRules:
    given: dict[str, int | float | None] = {"size": HOUR_MS, "lateness": 0, "sources": 1, **changes}
    return MeetingRules(**given)  # type: ignore[arg-type]


class Life:
    """A meeting over a log, that may die and be followed by another."""

    def __init__(self, of: MeetingRules, log: Sequence[Content]) -> None:
        self.rules = of
        self.log = [LoggedRecord(offset, content) for offset, content in enumerate(log)]
        self.meeting = Meeting(of)
        self.published: list[Estimate] = []
        self.failed = 0
        self.late = 0
        self._kept: tuple[MeetingStand, dict[str, tuple[int, bytes]]] = (MeetingStand(0, 0, -(2**62), {}), {})

    def run(self, upto: int, step: int = 1000) -> "Life":
        """Read on to an offset, in batches of `step`."""
        at = self.meeting.settled().offset if not self.published else self._read
        while at < upto:
            batch = self.log[at : min(at + step, upto)]
            at = batch[-1].offset + 1
            self._tell(self.meeting.feed(batch, at, 0))
            self._read = at
        return self

    _read = 0

    def _tell(self, met: MeetingOutput) -> None:
        self.published += met.estimates
        self.failed += len(met.failed)
        self.late += met.late

    def commit(self) -> None:
        """What a stage stores and commits."""
        stand = self.meeting.settled()
        states = {name: (at, self.meeting.dump(name, at)) for name, at in self.meeting.horizons().items()}
        self._kept = MeetingStand.parse(stand.offset, stand.metadata()), states

    def die(self) -> None:
        """A successor begins from what was committed."""
        stand, states = self._kept
        learned = {name: (at, LEARNED.decode(data).learned()) for name, (at, data) in states.items()}
        self.meeting = Meeting(self.rules, stand, learned)
        self._read = stand.offset

    def newest(self) -> dict[tuple[str, int], str]:
        """The bytes that stay: of each window the highest revision, the last of equal ones."""
        found: dict[tuple[str, int], Estimate] = {}
        for one in self.published:
            key = one.station, to_ms(one.window.end)
            if key not in found or found[key].revision <= one.revision:
                found[key] = one
        return {key: one.model_dump_json() for key, one in sorted(found.items())}

    def estimates(self) -> dict[tuple[str, int], Estimate]:
        """The same as records."""
        return {key: Estimate.model_validate_json(body) for key, body in self.newest().items()}


def air(stations: int, hours: int, seed: int = 1) -> np.ndarray:
    """(hours, stations) ug/m3 that are alike."""
    random = np.random.default_rng(seed)
    shared = np.zeros(hours)
    for hour in range(1, hours):
        shared[hour] = 0.9 * shared[hour - 1] + random.normal(0, 0.25)
    bias = random.normal(0, 0.15, stations)
    return np.exp(3.5 + shared[:, None] + bias + random.normal(0, 0.05, (hours, stations)))


def ends(hours: int) -> Iterator[int]:
    """Ends of hours."""
    for hour in range(1, hours + 1):
        yield START + hour * HOUR_MS
