"""The alert stage: estimates through the state machines of `alerting`, events out, then settled."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

from agents.telling import alert_record
from alerting.rules import AlertRules
from alerting.station import StationAlerts
from alerting.stored import ALERTS, FORESEEN
from alerting.watch import Watch
from schemas.alert import Alert
from schemas.errors import Refused
from schemas.limits import STATIONS_PER_PARTITION
from streams import metrics, topics
from streams.accept import Keys, read_estimate, read_forecast
from streams.checkpoint import Checkpoints
from streams.letters import Letters
from streams.stage import Committed, KafkaRecord, Out, StageIo

#: Seconds that pass at most between two ticks: what is more, the machine slept, and nobody could be heard.
_LONGEST_TICK: Final = 5.0


@dataclass(frozen=True)
class Quiet:
    """How a stage sees that time passes while a partition's estimates stand still.

    `clock`: monotonic seconds. `waiting`: whether estimates from this offset on wait to be read.
    `unheard_since`: whether no reading and no frame has come to the partition since this time, ms: else the
    pipeline is behind, and not the stations. `slack_ms`: from a reading to its estimate at most.
    """

    clock: Callable[[], float]
    waiting: Callable[[int], bool]
    unheard_since: Callable[[int], Awaitable[bool]]
    slack_ms: int


class AlertStage:
    """Alerts of one partition of the estimates, or of the forecasts, by the rules that look at these.

    Events are confirmed before anything is settled; the states they left behind are checkpointed with the
    offset they belong to, so a successor tells the same events again, under the same ids, or none twice.

    Event time is that of the estimates. Where `quiet` is given and everything that came has been read, it
    goes on by the time that this stage sees pass: how far it has come is committed, with the offset, *before*
    anything is told by it. A successor lets the same time pass at the same place of the log.
    """

    def __init__(
        self,
        io: StageIo,
        keys: Keys,
        rules: Callable[[], AlertRules],
        checkpoints: Checkpoints,
        snapshots: Mapping[str, tuple[int, StationAlerts]],
        *,
        horizon_ms: int,
        quiet: Quiet | None = None,
        on: Literal["estimates", "forecasts"] = "estimates",
    ) -> None:
        self._io = io
        self._keys = keys
        self._foresees = on == "forecasts"
        self._rules = rules
        self._watch = Watch(
            self._in_force(), horizon_ms, {station: state for station, (_, state) in snapshots.items()}
        )
        self._checkpoints = checkpoints
        inputs = topics.FORECASTS if self._foresees else topics.ESTIMATES
        self._topic = io.names.of(inputs)
        self._stations_topic = io.names.of(topics.STATIONS)
        start, passed = io.start(inputs)
        self._quiet = quiet
        self._stored_as = FORESEEN if self._foresees else ""
        #: Offset after the last estimate that was watched, and up to which states have been written.
        self._read = self._saved = start
        #: The same of the station records; None before the first.
        self._stations_read: int | None = None
        self._stations_saved: int | None = None
        #: Time that has passed, ms: as committed, as a commit under way has it, and as the next one will.
        self._passed = self._passing = self._decided = int(passed) if passed.isdecimal() else 0
        #: Broker's time of the newest estimate, ms; 0: none was read yet.
        self._newest = 0
        self._ticked = 0.0
        self._stand_still()
        # Counted from zero: a first event is otherwise no increase to Prometheus.
        for event in get_args(Alert.model_fields["event"].annotation):
            metrics.ALERT_TRANSITIONS.labels(event)
        self._counted = 0
        self._count()

    async def handle(self, topic: str, records: Sequence[KafkaRecord]) -> None:
        """Watch one poll's estimates; retire the stations whose records are taken back."""
        # Also what a commit says that is under way: a successor that finds it lets it pass here.
        await self._let_pass(self._passing)
        if topic == self._stations_topic:
            for record in records:
                if record.value is None and record.key is not None:
                    await self._tell(
                        self._watch.retire(record.key.decode(errors="replace"), record.timestamp)
                    )
            self._stations_read = records[-1].offset + 1
            return
        assert topic == self._topic, f"{topic} is not what this stage reads"
        letters = Letters(self._io.names, "alert")
        events: list[Alert] = []
        for record in records:
            told = letters.read(record, lambda record=record: self._watched(record))  # type: ignore[misc]
            events += told or ()
        letters.count(records)
        await self._tell(events, letters.out())
        self._read = records[-1].offset + 1
        self._newest = records[-1].timestamp
        self._stand_still()

    def _watched(self, record: KafkaRecord) -> list[Alert]:
        if self._foresees:
            forecast = read_forecast(record, self._keys)
            self._expect_room(forecast.station)
            return self._watch.foresee([forecast])
        estimate = read_estimate(record, self._keys)
        self._expect_room(estimate.station)
        return self._watch.feed([estimate])

    def _in_force(self) -> AlertRules:
        rules = self._rules()
        return rules.on_forecasts if self._foresees else rules.on_estimates

    def _expect_room(self, station: str) -> None:
        """Raises Refused where too many stations are watched."""
        known = self._watch.states()
        if station not in known and len(known) >= STATIONS_PER_PARTITION:
            raise Refused(
                "too_many_stations",
                f"{STATIONS_PER_PARTITION} stations are watched on this partition, so {station} is"
                " not: retire those that are gone, or use more partitions",
            )

    async def _tell(self, events: Sequence[Alert], others: Sequence[Out] = ()) -> None:
        topic = self._io.names.of(topics.ALERTS)
        out = [alert_record(topic, event, self._io.partition) for event in events]
        await self._io.publish([*out, *others])

    async def tick(self) -> None:
        """Let time pass while nothing comes."""
        await self._let_pass(self._passed)
        quiet = self._quiet
        if quiet is None:
            return
        clock = quiet.clock()
        step, self._ticked = min(clock - self._ticked, _LONGEST_TICK), clock
        if quiet.waiting(self._read):
            self._stand_still()
            return
        self._idle += step
        reached = self._since + int(self._idle * 1000)
        due = self._watch.due()
        if due is None or reached <= due or self._decided > self._watch.now:
            return
        if await quiet.unheard_since((self._newest or self._watch.watermark) + quiet.slack_ms):
            self._decided = reached
        else:
            self._stand_still()

    def _stand_still(self) -> None:
        """Something came, or waits: time goes on from here."""
        self._since = self._watch.now
        self._idle = 0.0
        self._decided = self._passing
        if self._quiet is not None:
            self._ticked = self._quiet.clock()

    async def _let_pass(self, now: int) -> None:
        if now > self._watch.now:
            await self._tell(self._watch.pass_time(now))

    async def settle(self) -> Mapping[str, tuple[int, str]]:
        """Everything before this offset is told, and the states it left are checkpointed."""
        if self._read != self._saved:
            changed = self._watch.changes()
            await self._io.publish(
                self._checkpoints.write(
                    {self._stored_as + station: self._read for station in changed},
                    lambda name, _: ALERTS.encode(changed[name.removeprefix(self._stored_as)]),
                )
            )
            self._saved = self._read
        # A state is written once per offset. What time or a station record has changed since then is made
        # again by a successor, from the same time and the same record, until the offset has moved.
        if not self._watch.unsaved:
            self._stations_saved = self._stations_read
        self._count()
        # Rules that have changed hold from the offset on that is committed now: a successor begins there,
        # with the new rules. Changed in between, what the old ones told would be told again by the new ones,
        # in other words under the same id and sequence.
        self._watch.rules = self._in_force()
        self._passing = self._decided
        settled = {self._topic: (self._read, str(self._passing) if self._passing else "")}
        if self._stations_saved is not None:
            settled[self._stations_topic] = self._stations_saved, ""
        return settled

    def _count(self, gone: bool = False) -> None:
        """This partition's share of the gauge, which the worker's partitions have in common."""
        now = 0 if gone else sum(state.active() for state in self._watch.states().values())
        metrics.ALERTS.labels("open").inc(now - self._counted)
        self._counted = now

    def committed(self) -> None:
        """The checkpoints written last go with the committed offset, and its time has passed."""
        self._checkpoints.committed()
        self._passed = self._passing

    def paused(self) -> set[str]:
        """Never."""
        return set()

    async def close(self) -> None:
        """The alerts of this partition are another worker's to count."""
        self._count(gone=True)


class AlertStages:
    """Alerts on what is and on what is to come: two logs, each with states of its own."""

    def __init__(self, io: StageIo, estimates: AlertStage, forecasts: AlertStage) -> None:
        self._stages = estimates, forecasts
        self._forecasts_topic = io.names.of(topics.FORECASTS)
        self._stations_topic = io.names.of(topics.STATIONS)

    async def handle(self, topic: str, records: Sequence[KafkaRecord]) -> None:
        """Take one poll's records; those of stations are for both."""
        estimates, forecasts = self._stages
        if topic != self._forecasts_topic:
            await estimates.handle(topic, records)
        if topic in (self._forecasts_topic, self._stations_topic):
            await forecasts.handle(topic, records)

    async def tick(self) -> None:
        """Let time pass for the estimates; that of forecasts is their own."""
        await self._stages[0].tick()

    async def settle(self) -> Committed:
        """Where both stand; station records as far as both have kept what they changed."""
        first, second = [await stage.settle() for stage in self._stages]
        settled = {**first, **second}
        settled.pop(self._stations_topic, None)
        if self._stations_topic in first and self._stations_topic in second:
            settled[self._stations_topic] = min(first[self._stations_topic], second[self._stations_topic])
        return settled

    def committed(self) -> None:
        """Both are committed together."""
        for stage in self._stages:
            stage.committed()

    def paused(self) -> set[str]:
        """Never."""
        return set()

    async def close(self) -> None:
        """The alerts of this partition are another worker's to count."""
        for stage in self._stages:
            await stage.close()
