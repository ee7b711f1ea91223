"""The fleet's health of one partition: readings, features and what devices say, into aq.fleet.v1.

It runs beside the alerts in their worker: that one waits for no database and no network, so it sees a station
fall silent also while a sink stands still.
"""

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Final

import msgspec
from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError

from agents.telling import alert_record
from alerting.rules import AlertRules
from alerting.troubles import ended, judge, under
from fleet.condition import STATES, Condition, FleetState, clock_is_off, condition
from fleet.station import Member
from schemas.alert import Alert
from schemas.base import StationId, parse_time, to_ms
from schemas.device import CLOCK, PAYLOAD, DeviceReport
from schemas.errors import Refused
from schemas.health import TROUBLES, StationHealth, Trouble
from schemas.limits import FORGOTTEN_AFTER_MS, STATIONS_PER_PARTITION
from schemas.times import DAY_MS
from streams import metrics, topics
from streams.accept import MAX_READING_BYTES, Keys, is_amendment, is_punctuation
from streams.stage import Committed, KafkaRecord, Out, Stage, StageIo

log = logging.getLogger(__name__)

#: Seconds between two records of a station that goes on as before.
_EVERY_S: Final = 15.0
#: Seconds between two counts of the states.
_COUNTED_S: Final = 10.0
#: A reading that came to the broker so long ago says nothing of the present: a new group begins with a week.
_OLD_MS: Final = DAY_MS
#: And one from so far ahead, where producers give the topic's times, would never fall silent.
_AHEAD_MS: Final = DAY_MS
#: What readings tell of.
_CLOCK: Final[tuple[Trouble, ...]] = ("clock",)
#: What a reading says something of.
_OF_READINGS: Final[tuple[Trouble, ...]] = ("clock", "payload")
_MALFORMED: Final = (
    msgspec.MsgspecError,
    PydanticCustomError,
    ValidationError,
    Refused,
    ValueError,
    OverflowError,
    RecursionError,  # JSON nested deeper than the decoder goes
)


class _Spoken(msgspec.Struct):
    """Of a reading, when it was stamped and by whom; what it measured is the fusion stage's business."""

    station: str
    observed_at: int | str
    period: int = 0
    stamp: str = "ends"
    received_at: int | str | None = None
    time_source: str | None = None


class _Pictured(msgspec.Struct):
    """Of a picture's features, whose they are."""

    station: str


_spoken: Final = msgspec.json.Decoder(_Spoken)
_pictured: Final = msgspec.json.Decoder(_Pictured)
_id: Final = TypeAdapter(StationId)


class FleetStage:
    """The stations of one partition.

    Each record says up to which offset it counts, so what is read again after a crash changes nothing;
    offsets are committed after the records are confirmed. What cannot be read is the fusion stage's to tell.

    Alerts of a station's troubles are told as the records come that show them, before the station's record,
    which says where the rules stand: what is read again tells the same. Of a clock readings tell, of all else
    what devices and gateways report.
    """

    def __init__(
        self,
        io: StageIo,
        keys: Keys,
        restored: Iterable[bytes],
        rules: Callable[[], AlertRules] = AlertRules,
    ) -> None:
        self._io = io
        self._keys = keys
        self._rules_now = rules
        self._rules = AlertRules()
        self._events: list[Alert] = []
        self._topics = {
            io.names.of(topic): kind
            for kind, topic in (
                ("readings", topics.READINGS),
                ("features", topics.FEATURES),
                ("devices", topics.DEVICES),
            )
        }
        self._members: dict[str, Member] = {}
        for value in restored:
            try:
                health = StationHealth.model_validate_json(value)
            except ValidationError as error:
                log.warning("a record of the fleet is left out, its station begins anew: %s", error)
                continue
            self._members[health.station] = Member.of(health)
        self._read: dict[str, int] = {}
        self._told: dict[str, int] = {}
        self._changed: dict[str, None] = {}
        self._told_at = self._counted_at = 0.0
        self._states: dict[FleetState, int] = dict.fromkeys(STATES, 0)
        self._troubled: set[tuple[str, str]] = set()
        self._open = 0

    async def handle(self, topic: str, records: Sequence[KafkaRecord]) -> None:
        """Take one poll's records."""
        kind = self._topics.get(topic)
        if kind is None:
            await self._retire(records)
            return
        now = int(self._io.clock() * 1000)
        self._take_rules()
        for record in records:
            if now - _OLD_MS <= record.timestamp <= now + _AHEAD_MS and record.value is not None:
                self._take(kind, record)
        await self._tell()
        self._read[topic] = records[-1].offset + 1

    def _take(self, kind: str, record: KafkaRecord) -> None:
        value = record.value or b""
        if len(value) > MAX_READING_BYTES or is_punctuation(record) or is_amendment(record):
            return
        try:
            match kind:
                case "readings":
                    spoken = _spoken.decode(value)
                    stamp = to_ms(parse_time(spoken.observed_at))
                    arrived = record.timestamp
                    if spoken.received_at is not None:
                        arrived = min(arrived, to_ms(parse_time(spoken.received_at)))
                    end = stamp + spoken.period * 1000 if spoken.stamp == "begins" else None
                    own = None if spoken.time_source is None else spoken.time_source == "device"
                    if member := self._member(kind, record, spoken.station):
                        member.take_reading(arrived, stamp, end=end, own=own)
                        there = _of_reading(member, record.timestamp)
                        self._judge(member, _OF_READINGS, there, record.timestamp)
                case "features":
                    if member := self._member(kind, record, _pictured.decode(value).station):
                        member.take_picture(record.timestamp)
                case _:
                    report = DeviceReport.model_validate_json(value)
                    if member := self._member(kind, record, report.station):
                        member.take_report(report)
                        said = _said(report)
                        there = condition(member.health(), record.timestamp).troubles if said else ()
                        self._judge(member, said, there, record.timestamp)
        except _MALFORMED:
            return

    def _member(self, kind: str, record: KafkaRecord, station: str) -> Member | None:
        """Whose record it is; None where it was counted before, or there are too many.

        Raises Refused (misplaced), ValidationError (its id is none).
        """
        self._keys.check(record, station)
        member = self._members.get(station)
        if member is None:
            _id.validate_python(station)
            if len(self._members) >= STATIONS_PER_PARTITION:
                return None  # the fusion stage says so
            # What is said of a station is not yet heard of it.
            member = self._members[station] = Member(
                station, record.timestamp, record.timestamp, unheard=kind == "devices"
            )
        if record.offset < member.read_to.get(kind, 0):
            return None
        member.read_to[kind] = record.offset + 1
        self._changed[station] = None
        return member

    def _judge(self, member: Member, said: Collection[Trouble], there: Collection[Trouble], at: int) -> None:
        if self._rules.rule and said:
            member.alerts, events = judge(self._rules, member.station, member.alerts, said, there, at)
            self._events += events

    def _take_rules(self) -> None:
        """Rules that have changed: alerts of those that are gone end, at every station."""
        rules = self._rules_now()
        if rules is self._rules:
            return
        self._rules = rules
        for member in self._members.values():
            kept, events = under(rules, member.station, member.alerts)
            if len(kept) < len(member.alerts):
                member.alerts = kept
                self._changed[member.station] = None
                self._events += events

    async def _tell(self) -> None:
        events, self._events = self._events, []
        if events:
            topic = self._io.names.of(topics.ALERTS)
            await self._io.publish([alert_record(topic, event, self._io.partition) for event in events])

    async def _retire(self, records: Sequence[KafkaRecord]) -> None:
        """Stations whose records were taken back, and have not spoken since, leave the fleet."""
        gone = {}
        for record in records:
            station = (record.key or b"").decode(errors="replace")
            member = self._members.get(station)
            if record.value is None and member is not None and member.last_arrival <= record.timestamp:
                gone[station] = record.timestamp
        await self._forget(gone)

    async def _forget(self, gone: Mapping[str, int]) -> None:
        """They leave; their alerts end at the time given, ms."""
        for station, at in gone.items():
            member = self._members.pop(station)
            self._events += ended(station, member.alerts, at)
            self._changed.pop(station, None)
        await self._tell()
        topic = self._io.names.of(topics.FLEET)
        await self._io.publish([Out(topic, station.encode(), None) for station in gone])

    async def tick(self) -> None:
        """Count the states as time passes; who was not heard for a season leaves."""
        now = self._io.clock()
        if now - self._counted_at < _COUNTED_S:
            return
        self._counted_at = now
        ms = int(now * 1000)
        self._take_rules()
        await self._tell()
        await self._forget(
            {
                one.station: one.last_arrival + FORGOTTEN_AFTER_MS
                for one in self._members.values()
                if one.last_arrival < ms - FORGOTTEN_AFTER_MS
            }
        )
        self._count({name: condition(one.health(), ms) for name, one in self._members.items()})

    def _count(self, conditions: Mapping[str, Condition]) -> None:
        """This partition's share of the gauges, which the worker's partitions have in common."""
        states = dict.fromkeys(STATES, 0)
        troubled: set[tuple[str, str]] = set()
        for station, (state, troubles) in conditions.items():
            states[state] += 1
            whys = [*troubles, *([] if state == "online" else [state])]
            troubled |= {(station, why) for why in whys}
        for state in STATES:
            metrics.FLEET_STATIONS.labels(state).inc(states[state] - self._states[state])
        for trouble in TROUBLES:
            change = sum(why == trouble for _, why in troubled) - sum(
                why == trouble for _, why in self._troubled
            )
            metrics.FLEET_TROUBLES.labels(trouble).inc(change)
        for gone in self._troubled - troubled:
            metrics.FLEET_UNWELL.remove(*gone)
        for new in troubled - self._troubled:
            metrics.FLEET_UNWELL.labels(*new).set(1)
        self._states, self._troubled = states, troubled
        open_now = sum(
            alert.opened_ms is not None
            for station in conditions
            for alert in self._members[station].alerts.values()
        )
        metrics.ALERTS.labels("open").inc(open_now - self._open)
        self._open = open_now

    async def settle(self) -> Mapping[str, tuple[int, str]]:
        """What has changed is told every few seconds; offsets go up to there."""
        now = self._io.clock()
        if self._read != self._told and abs(now - self._told_at) >= _EVERY_S:
            topic = self._io.names.of(topics.FLEET)
            await self._io.publish(
                [
                    Out(topic, station.encode(), self._members[station].health().model_dump_json().encode())
                    for station in self._changed
                ]
            )
            self._changed.clear()
            self._told, self._told_at = dict(self._read), now
        return {topic: (offset, "") for topic, offset in self._told.items()}

    def committed(self) -> None:
        """Nothing hangs on a commit here."""

    def paused(self) -> set[str]:
        """Never."""
        return set()

    async def close(self) -> None:
        """The stations of this partition are another worker's to count."""
        self._count({})


def _of_reading(member: Member, at: int) -> Collection[Trouble]:
    if CLOCK in member.sources or PAYLOAD in member.sources:  # seldom: the whole of its health is asked
        return [one for one in condition(member.health(), at).troubles if one in _OF_READINGS]
    offset = member.clock_offset
    off = clock_is_off(None if offset is None else offset / 1000, member.period / 1000)
    return _CLOCK if off else ()


def _said(report: DeviceReport) -> Collection[Trouble]:
    """The troubles that a report says something of."""
    if report.source is not None:
        kind = report.source.source.partition(" ")[0]
        return (kind,) if kind in ("camera", "pull", CLOCK, PAYLOAD) else ()  # type: ignore[return-value]
    return () if report.online is not None else ("battery", "two_addresses")


class Beside:
    """Two stages of one worker: each takes its own topics, the station records go to both."""

    def __init__(self, first: Stage, second: FleetStage, inputs: Sequence[str], both: str) -> None:
        self._first = first
        self._second = second
        self._inputs = frozenset(inputs)
        self._both = both

    async def handle(self, topic: str, records: Sequence[KafkaRecord]) -> None:
        """Take one poll's records."""
        if topic in self._inputs:
            await self._second.handle(topic, records)
            return
        if topic == self._both:
            await self._second.handle(topic, records)
        await self._first.handle(topic, records)

    async def tick(self) -> None:
        """Let time pass."""
        await self._first.tick()
        await self._second.tick()

    async def settle(self) -> Committed:
        """Where both stand; their topics are different ones."""
        return {**await self._first.settle(), **await self._second.settle()}

    def committed(self) -> None:
        """Both are committed together."""
        self._first.committed()
        self._second.committed()

    def paused(self) -> set[str]:
        """What either cannot take."""
        return self._first.paused() | self._second.paused()

    async def close(self) -> None:
        """Both let go."""
        await self._first.close()
        await self._second.close()
