"""What the network shows now, in memory, and the events that led to it. No I/O, no clock.

Events are kept once for all who listen; each listener has a place among them. So a thousand listeners cost a
thousand places, and one that is slow loses its place rather than memory: it is told to begin anew.

An event's id says up to where in each partition it and those before it go. So a listener that comes back,
also to another server or after a restart, gets what it has not had, as far as events are kept.
"""

import re
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Final, Literal, NamedTuple

from pydantic_core import to_json

from alerting.stored import FORESEEN
from schemas.alert import Alert
from schemas.base import format_time, to_ms
from schemas.dead_letter import DeadLetter
from schemas.estimate import Estimate
from schemas.health import StationHealth
from schemas.station import Station
from web.brief import brief
from web.documents import AlertNow
from web.why import of_alert

EventStream = Literal["estimate", "alert"]
_STREAMS: Final[tuple[EventStream, ...]] = ("estimate", "alert")
#: Events kept for listeners that come back, and bytes of them.
_EVENTS: Final = 50_000
_BYTES: Final = 32 * 1024 * 1024
#: Alerts kept; those that are over leave first.
_ALERTS: Final = 20_000
#: Dead letters kept, and ids by which one that comes again is known: it is counted once.
_LETTERS: Final = 500
_LETTER_IDS: Final = 20_000
#: Stations kept: as many as the topics may have.
_STATIONS: Final = 20_000
_ID: Final = re.compile(r"e([0-9.]{1,20000})a([0-9.]{1,20000})")


class TopicPlace(NamedTuple):
    """Where on the topics an event stands."""

    stream: EventStream
    partition: int
    offset: int


class Event(NamedTuple):
    """An event as it is sent. `number` counts all events of this process."""

    number: int
    place: TopicPlace
    station: str
    data: bytes


class Current(NamedTuple):
    """The newest window of a station: as it is on the topic, and in brief as it is sent."""

    end_ms: int
    estimate: Estimate
    body: bytes


class Missed(NamedTuple):
    """Why a listener cannot go on where it was."""

    why: str


class LiveState:
    """The state of all stations, and the events.

    Args:
        partitions: of the topics.
    """

    def __init__(self, partitions: int) -> None:
        self.latest: dict[str, Current] = {}
        self.stations: dict[str, Station] = {}
        self.health: dict[str, StationHealth] = {}
        self.alerts: dict[str, Alert] = {}
        #: The alert worker's checkpoints by station: slot to (horizon header, bytes).
        self.alert_states: dict[str, dict[str, tuple[int, bytes]]] = {}
        #: The newest dead letters by id, the newest last; and all that were seen, by code.
        self.letters: dict[str, DeadLetter] = {}
        self.refused: Counter[str] = Counter()
        self._letter_ids: dict[str, None] = {}
        #: By station and pollutant the end (ms) of the newest window in which it was measured; and by station
        #: that of the first window that was seen here.
        self.measured: dict[str, dict[str, int]] = {}
        self.first: dict[str, int] = {}
        #: End (ms) of the newest window that there ever was; None: there was none.
        self.furthest: int | None = None
        #: Grow with every change of what they name, for caches of answers.
        self.latest_version = 0
        self.stations_version = 0
        self.alerts_version = 0
        self.alert_states_version = 0
        self._events: deque[Event] = deque()
        self._bytes = 0
        self._number = 0
        self._next: dict[EventStream, list[int]] = {one: [0] * partitions for one in _STREAMS}
        #: First offset of each partition from which on all events are kept.
        self._floor: dict[EventStream, list[int]] = {one: [0] * partitions for one in _STREAMS}

    # -- what comes in -------------------------------------------------------------------------------------

    def begin(self, stream: EventStream, partition: int, offset: int) -> None:
        """Events of a partition are kept from this offset on."""
        self._floor[stream][partition] = self._next[stream][partition] = offset

    def estimate(self, estimate: Estimate, place: TopicPlace | None) -> None:
        """An estimate; without a place it comes from a cache or a store, and is no event."""
        station = estimate.station
        if station not in self.latest and len(self.latest) >= _STATIONS:
            return
        end = to_ms(estimate.window.end)
        kept = self.latest.get(station)
        newer = kept is None or (end, estimate.revision) >= (kept.end_ms, kept.estimate.revision)
        if not newer and place is None:
            return
        self.first.setdefault(station, end)
        self.furthest = max(end, self.furthest or end)
        for name, one in estimate.pollutants.items():
            if one.kind != "imputed":
                ends = self.measured.setdefault(station, {})
                ends[name] = max(end, ends.get(name, end))
        body = to_json(brief(estimate), exclude_none=True)
        if newer:
            self.latest[station] = Current(end, estimate, body)
            self.latest_version += 1
        if place is not None:
            self._tell(place, station, body)

    def alert(self, alert: Alert, place: TopicPlace) -> None:
        """An event of an alert."""
        kept = self.alerts.get(alert.id)
        if kept is not None and kept.sequence > alert.sequence:
            return
        self.alerts[alert.id] = alert
        self.alerts_version += 1
        if len(self.alerts) > _ALERTS:
            over = next((one.id for one in self.alerts.values() if not is_active(one)), None)
            self.alerts.pop(over if over is not None else next(iter(self.alerts)))
        self._tell(place, alert.station, to_json(shown(alert), exclude_none=True))

    def no_alert(self, id: str) -> None:
        """An alert left the topic."""
        if self.alerts.pop(id, None) is not None:
            self.alerts_version += 1

    def station(self, name: str, record: Station | None) -> None:
        """A station's record; None: it is retired, and leaves."""
        self.stations_version += 1
        if record is None:
            self.stations.pop(name, None)
            if self.latest.pop(name, None) is not None:
                self.latest_version += 1
            for known in (self.health, self.alert_states, self.measured, self.first):
                known.pop(name, None)
            self.alert_states.pop(FORESEEN + name, None)
        elif name in self.stations or len(self.stations) < _STATIONS:
            self.stations[name] = record

    def fares(self, name: str, health: StationHealth | None) -> None:
        """How a station fares."""
        self.stations_version += 1
        if health is None:
            self.health.pop(name, None)
        elif name in self.health or len(self.health) < _STATIONS:
            self.health[name] = health

    def alert_state(self, name: str, slot: str, state: tuple[int, bytes] | None) -> None:
        """A checkpoint of the alert worker's."""
        self.alert_states_version += 1
        if state is None:
            self.alert_states.get(name, {}).pop(slot, None)
        elif name in self.alert_states or len(self.alert_states) < 2 * _STATIONS:  # with those of forecasts
            self.alert_states.setdefault(name, {})[slot] = state

    def letter(self, letter: DeadLetter) -> None:
        """A dead letter. It may come again: refused once more after a crash, or sent back and marked so."""
        before = self.letters.pop(letter.id, None)
        if before is not None and letter.redriven_at is None:
            letter = letter.model_copy(update={"redriven_at": before.redriven_at})
        self.letters[letter.id] = letter
        if len(self.letters) > _LETTERS:
            del self.letters[next(iter(self.letters))]
        if letter.id in self._letter_ids:
            return
        self.refused[letter.code] += 1
        self._letter_ids[letter.id] = None
        if len(self._letter_ids) > _LETTER_IDS:
            del self._letter_ids[next(iter(self._letter_ids))]

    def _tell(self, place: TopicPlace, station: str, data: bytes) -> None:
        self._number += 1
        self._next[place.stream][place.partition] = place.offset + 1
        name = b"id: %s\nevent: %s\ndata: " % (self.id.encode(), place.stream.encode())
        event = Event(self._number, place, station, name + data + b"\n\n")
        self._events.append(event)
        self._bytes += len(event.data)
        while self._events and (len(self._events) > _EVENTS or self._bytes > _BYTES):
            gone = self._events.popleft()
            self._bytes -= len(gone.data)
            floor = self._floor[gone.place.stream]
            floor[gone.place.partition] = max(floor[gone.place.partition], gone.place.offset + 1)

    # -- what goes out -------------------------------------------------------------------------------------

    @property
    def id(self) -> str:
        """Up to where all events so far go."""
        return "".join(f"{one[0]}{'.'.join(map(str, self._next[one]))}" for one in _STREAMS)

    def reached(self, stream: EventStream, partition: int) -> int:
        """Offset after the last event of a partition; 0: none yet."""
        return self._next[stream][partition]

    @property
    def number(self) -> int:
        """That of the newest event."""
        return self._number

    def since(self, number: int) -> list[Event] | Missed:
        """The events after the one of that number."""
        if not self._events or number >= self._number:
            return []
        first = self._events[0].number
        if number + 1 < first:
            return Missed("events came faster than they were taken")
        skip = number + 1 - first
        return [self._events[at] for at in range(skip, len(self._events))] if skip else list(self._events)

    def resume(self, id: str) -> list[Event] | Missed:
        """The events that a listener has not had whose last one had this id."""
        had = _parse(id)
        if had is None or any(len(had[one]) != len(self._next[one]) for one in _STREAMS):
            return Missed("the id is of another server")
        for one in _STREAMS:
            for reached, floor, end in zip(had[one], self._floor[one], self._next[one], strict=True):
                if reached < floor:
                    return Missed("it was away for too long")
                if reached > end:
                    return Missed("the topics were made anew")
        return [
            event
            for event in self._events
            if event.place.offset >= had[event.place.stream][event.place.partition]
        ]

    def newest(self) -> int | None:
        """End of the newest window of all, ms."""
        return max((one.end_ms for one in self.latest.values()), default=None)


def _parse(id: str) -> Mapping[EventStream, list[int]] | None:
    found = _ID.fullmatch(id)
    if found is None:
        return None
    try:
        return {one: _numbers(found[place].split(".")) for place, one in enumerate(_STREAMS, 1)}
    except ValueError:
        return None


def _numbers(texts: Iterable[str]) -> list[int]:
    return [int(text) for text in texts]


def is_active(alert: Alert) -> bool:
    """Whether an alert is open."""
    return alert.event in ("open", "update")


def shown(alert: Alert) -> AlertNow:
    """An alert as the API has it."""
    try:
        opened = alert.opened
    except ValueError:
        opened = None
    return AlertNow(
        id=alert.id, sequence=alert.sequence, event=alert.event, station=alert.station, rule=alert.rule,
        severity=alert.severity, at=alert.at, since=alert.since, opened=opened, reason=alert.reason,
        told=of_alert(alert.reason), active=is_active(alert),
    )  # fmt: skip


def greeting(live: LiveState, now_text: str) -> bytes:
    """The first event of a stream: from here on nothing is missed."""
    return b"id: %s\nevent: hello\ndata: %s\n\n" % (live.id.encode(), to_json({"now": now_text}))


def reset(live: LiveState, missed: Missed) -> bytes:
    """What a listener is told that has to ask for the latest state anew."""
    return b"id: %s\nevent: reset\ndata: %s\n\n" % (live.id.encode(), to_json({"why": missed.why}))


class WorkerAway(NamedTuple):
    """A worker that does not answer, or that waits for an engine (`waits_for`), and since when."""

    role: str
    waits_for: str
    since: datetime


class WorkerBehind(NamedTuple):
    """A worker that answers, and is minutes behind, and since when."""

    role: str
    since: datetime


class Absent(NamedTuple):
    """What is away: Kafka since then (s since 1970; None: it is there), and workers; and who is behind.

    `coming`: nothing new is there, because the past is being worked off.
    """

    kafka_since: float | None = None
    workers: tuple[WorkerAway, ...] = ()
    coming: bool = False
    behind: tuple[WorkerBehind, ...] = ()


def pulse(now_text: str, away: Absent) -> bytes:
    """A sign of life: the time here, since when Kafka is away, and which workers do not do their work."""
    kafka = away.kafka_since
    since = None if kafka is None else format_time(datetime.fromtimestamp(kafka, UTC))
    workers = [
        {"role": one.role, "waits_for": one.waits_for, "since": format_time(one.since)}
        for one in away.workers
    ]
    return b"event: pulse\ndata: %s\n\n" % to_json(
        {
            "now": now_text,
            "kafka_away_since": since,
            "workers_away": workers,
            "coming": away.coming,
            "workers_behind": [{"role": one.role, "since": format_time(one.since)} for one in away.behind],
        }
    )
