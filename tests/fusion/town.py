"""A town without a broker: readings as stations send them, through acceptance, the join and the assessor."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from aiokafka import ConsumerRecord

from aqi.known_names import check_station
from fusion.assessor import Assessor
from fusion.sensors.declared import humidity_ms
from model.bundle.bundle import Bundle
from model.bundle.runtime import Head
from schemas.base import to_ms
from schemas.errors import Refused
from schemas.estimate import Estimate
from schemas.station import Station
from streams.accept import Keys, reading_items
from streams.cadences import Cadences
from streams.join import Join, Output, Rules
from streams.standing import Periods

SECOND, MINUTE, HOUR = 1000, 60_000, 3_600_000
#: Midnight in UTC.
DAY = 1_750_204_800_000
RULES = Rules(MINUTE, 5_000, 10 * MINUTE, {"features": 2_000, "readings": 2_000}, None, 10 * MINUTE)


@cache
def head() -> Head:
    return Head(Bundle.load())


def value(parameter: str, number: float, unit: str = "ug/m3", **more: str) -> dict[str, Any]:
    return {"parameter": parameter, "value": number, "unit": unit, **more}


def reading(station: str, at: int, *values: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    return {"station": station, "observed_at": at, "values": list(values), **more}


def record(
    message: Mapping[str, Any], offset: int, arrival: int | None = None
) -> ConsumerRecord[bytes, bytes]:
    key, data = str(message["station"]).encode(), json.dumps(message).encode()
    at = message["observed_at"] + 500 if arrival is None else arrival
    return ConsumerRecord("aq.readings.v1", 0, offset, at, 0, key, data, None, len(key), len(data), [])


@dataclass
class Town:
    """One partition of readings; no camera."""

    stations: Mapping[str, Station] = field(default_factory=dict)
    rules: Rules = RULES

    def __post_init__(self) -> None:
        for station in self.stations.values():
            check_station(station)
        self.join = Join(self.rules)
        self.assessor = Assessor(
            head(), size_ms=self.rules.size, lateness_ms=self.rules.lateness, snapshots={}
        )
        self.periods = Periods(self.rules.size, Cadences(), self.stations.get, humidity_ms)
        self.refused: list[Refused] = []
        self.late = 0
        #: The newest revision of each window.
        self.estimates: dict[tuple[str, int], Estimate] = {}
        self._offset = 0
        self.join.punctuate("features", 2**62, 0, 0)

    def hear(self, messages: Iterable[Mapping[str, Any]], poll: int = 500) -> None:
        """Take messages, in the order in which they reach the broker, `poll` of them at a time."""
        items = []
        for number, message in enumerate(messages, 1):
            arrival = message.get("arrival")
            body = {name: part for name, part in message.items() if name != "arrival"}
            try:
                made, partly = reading_items(record(body, self._offset, arrival), Keys(1), self.periods)
                items += made
                self.refused += [partly] if partly is not None else []
            except Refused as refused:
                self.refused.append(refused)
            self._offset += 1
            if number % poll == 0:
                self._take(self.join.feed("readings", items, self._offset, 0))
                items = []
        self._take(self.join.feed("readings", items, self._offset, 0))

    def until(self, at: int) -> None:
        """Let event time reach `at`."""
        self._take(self.join.punctuate("readings", at, self._offset, 0))

    def _take(self, output: Output) -> None:
        self.late += len(output.late)
        for estimate in self.assessor.run(output.steps, self.join.done, self.stations.get).estimates:
            key = estimate.station, to_ms(estimate.window.end)
            if key not in self.estimates or estimate.revision >= self.estimates[key].revision:
                self.estimates[key] = estimate

    def of(self, station: str) -> list[Estimate]:
        """A station's estimates, in order of time."""
        return [self.estimates[key] for key in sorted(self.estimates) if key[0] == station]
