"""The alert stage: told before settled, and the same again after a crash, wherever it falls."""

import asyncio
import os
import random
from dataclasses import dataclass, field

import pytest
from aiokafka import ConsumerRecord

from agents.alert import AlertStage, Quiet
from agents.rules_file import RulesSource
from alerting.errors import RulesError
from alerting.rules import AlertRules, default
from alerting.stored import read
from alerting.watch import Watch
from schemas.alert import Alert
from schemas.dead_letter import DeadLetter
from schemas.estimate import Estimate
from streams.accept import Keys
from streams.checkpoint import Checkpoints
from streams.metrics import REGISTRY
from streams.stage import Out, StageIo
from tests.alerting.test_machine import MINUTE, RULES, minutes, rule
from tests.samples import T0, estimate, imputed, measured

ESTIMATES, ALERTS, STATIONS = "aq.estimates.v1", "aq.alerts.v1", "aq.stations.v1"


class Here(Keys):
    """All stations of these tests have keys that belong on partition 1."""

    def partition(self, station):
        del station
        return 1


@dataclass
class Kept:
    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]


@dataclass
class Log:
    """The broker as the stage sees it: an estimates partition, what was produced, what was committed."""

    records: list[ConsumerRecord]
    alerts: list[Alert] = field(default_factory=list)
    letters: list[Out] = field(default_factory=list)
    state: dict[bytes, Kept] = field(default_factory=dict)
    committed: int = 0

    rules: AlertRules = RULES

    async def publish(self, out):
        for one in out:
            assert one.partition in (1, None)
            if one.topic == ALERTS:
                self.alerts.append(Alert.model_validate_json(one.value))
                assert one.key == self.alerts[-1].id.encode()
            elif one.topic == "state":
                self.state[one.key] = Kept(one.key, one.value, list(one.headers))
            else:
                self.letters.append(one)

    def open(self):
        checkpoints = Checkpoints("state", 1)
        return AlertStage(
            StageIo(1, self.publish, committed={ESTIMATES: (self.committed, "")}),
            Here(2), lambda: self.rules, checkpoints,
            checkpoints.load(self.state.values(), self.committed, read),
            horizon_ms=10 * MINUTE,
        )  # fmt: skip


def records(estimates):
    return [
        ConsumerRecord(
            ESTIMATES, 1, offset, 1_800_000_000_000, 1,
            b"s" if isinstance(one, bytes) else one.station.encode(),
            one if isinstance(one, bytes) else one.model_dump_json().encode(), None, 0, 0, (),
        )
        for offset, one in enumerate(estimates)
    ]  # fmt: skip


def city(seed, count=300):
    draw = random.Random(seed)
    made = []
    for n in range(count):
        end = T0 + 60 * (1 + n // 3 - draw.choice((0, 0, 0, 2)))
        value = 120 + 80 * ((n // 40) % 2) - draw.randint(0, 60)
        pollutant = draw.choice((measured, lambda v: imputed(v, v - 20, v + 20)))(float(value))
        if draw.random() < 0.8 or n % 100 > 30:
            made.append(
                estimate(draw.choice("abc"), end, draw.randint(1, 3), {"pm25": pollutant}, indices=())
            )
    return made


@pytest.mark.parametrize("seed", range(8))
def test_killed_anywhere_it_tells_the_same_events(seed):
    draw = random.Random(seed)
    source = records(city(seed))

    async def undisturbed():
        log = Log(source)
        await log.open().handle(ESTIMATES, source)
        return log.alerts

    async def disturbed():
        log = Log(source)
        stage, position = log.open(), 0
        while position < len(source):
            batch = source[position : position + draw.randint(1, 12)]
            await stage.handle(ESTIMATES, batch)
            position += len(batch)
            fate = draw.random()
            if fate < 0.4:
                settled = await stage.settle()
                if fate < 0.3:  # else killed between the checkpoint and the commit
                    log.committed = settled[ESTIMATES][0]
                    stage.committed()
                else:
                    stage, position = log.open(), log.committed
            elif fate < 0.6:
                stage, position = log.open(), log.committed
        return log.alerts

    wanted = {(one.id, one.sequence): one for one in asyncio.run(undisturbed())}
    told = asyncio.run(disturbed())
    assert len(wanted) > 5
    unique: dict[tuple[str, int], Alert] = {}
    for one in told:
        assert unique.setdefault((one.id, one.sequence), one) == one
    assert unique == wanted


@pytest.mark.parametrize("seed", range(8))
def test_rules_that_change_hold_from_a_committed_offset_on_whoever_is_killed(seed):
    draw = random.Random(seed)
    source = records(city(seed))
    # The steps of one rule move, another rule goes.
    others = AlertRules(rule=(rule(2 * MINUTE, 2 * MINUTE, ((110, 90), (150, 140))), RULES.rule[2]))

    async def run():
        log = Log(source)
        stage, position, switched = log.open(), 0, None
        while position < len(source):
            batch = source[position : position + draw.randint(1, 12)]
            await stage.handle(ESTIMATES, batch)
            position += len(batch)
            if switched is None and position > len(source) // 2:
                log.rules, switched = others, position  # the file is written; the batch was the old rules'
                log.committed = (await stage.settle())[ESTIMATES][0]
                stage.committed()
            elif draw.random() < 0.4:
                await stage.tick()
                stage, position = log.open(), log.committed
            elif draw.random() < 0.5:
                log.committed = (await stage.settle())[ESTIMATES][0]
                stage.committed()
        return log, switched

    log, switched = asyncio.run(run())
    told: dict[tuple[str, int], Alert] = {}
    for one in log.alerts:
        assert told.setdefault((one.id, one.sequence), one) == one
    # As if the rules had changed exactly there, and nobody had been killed.
    calm = Watch(RULES, 10 * MINUTE)
    estimates = [Estimate.model_validate_json(one.value) for one in source]
    events = calm.feed(estimates[:switched])
    calm.rules = others
    events += calm.feed(estimates[switched:])
    assert told == {(one.id, one.sequence): one for one in events}
    assert any("was changed or removed" in one.reason for one in events)


def test_what_is_no_estimate_is_a_dead_letter_and_harms_nobody():
    first, second, third = minutes((1, 120), (2, 120), (3, 120))

    async def run():
        log = Log(records([first, b"{", second, third]))
        stage = log.open()
        await stage.handle(ESTIMATES, log.records)
        assert (await stage.settle())[ESTIMATES] == (4, "")
        return log

    log = asyncio.run(run())
    assert [one.event for one in log.alerts] == ["open"]
    (letter,) = log.letters
    story = DeadLetter.from_headers(letter.headers)
    assert (story.stage, story.code, story.offset, letter.value) == ("alert", "not_json", 1, b"{")


def test_rules_are_read_again_when_the_file_changes(tmp_path, caplog):
    file = tmp_path / "rules.toml"
    text = '[[rule]]\nid = "a"\nwhat = "silence"\nsteps = [{ severity = "minor", enter = 3 }]\n'
    file.write_text(text)
    source = RulesSource(file)
    assert [rule.id for rule in source().rule] == ["a"]

    def change(text, stamp):
        file.write_text(text)
        os.utime(file, ns=(stamp, stamp))

    change(text.replace('"a"', '"b"'), 10**18)
    assert [rule.id for rule in source().rule] == ["b"]
    change(text.replace("3", "x"), 10**18 + 1)
    assert [rule.id for rule in source().rule] == ["b"]
    assert "not TOML" in caplog.text
    file.unlink()
    assert [rule.id for rule in source().rule] == ["b"]
    with pytest.raises(RulesError):
        RulesSource(file)
    assert RulesSource(None)() == default()


# --- time that passes while nothing comes -------------------------------------------------------------------

QUIET = AlertRules(rule=tuple(one for one in default().rule if one.id == "silence"))


class Clock:
    """Seconds, what the broker says of its topics, and how often it was asked."""

    def __init__(self):
        self.seconds, self.waiting, self.unheard, self.asked = 0.0, False, True, []

    def quiet(self):
        async def unheard_since(at):
            self.asked.append(at)
            return self.unheard

        return Quiet(lambda: self.seconds, lambda _: self.waiting, unheard_since, slack_ms=90_000)


@dataclass
class Partition(Log):
    """The broker, with a clock, and station records."""

    clock: Clock = field(default_factory=Clock)
    commits: dict[str, tuple[int, str]] = field(default_factory=lambda: {ESTIMATES: (0, "")})
    rules: AlertRules = QUIET

    def open(self):
        checkpoints = Checkpoints("state", 1)
        start, _ = self.commits[ESTIMATES]
        return AlertStage(
            StageIo(1, self.publish, committed=self.commits),
            Here(2), lambda: self.rules, checkpoints,
            checkpoints.load(self.state.values(), start, read),
            horizon_ms=10 * MINUTE, quiet=self.clock.quiet(),
        )  # fmt: skip

    async def settle(self, stage, *, commit=True):
        settled = await stage.settle()
        if commit:
            self.commits |= settled
            stage.committed()

    async def seconds(self, stage, count):
        for _ in range(count):
            self.clock.seconds += 1
            await stage.tick()
            await self.settle(stage)


def spoken(*numbers, station="s"):
    return records(minutes(*((n, 10) for n in numbers), station=station))


def test_a_partition_that_is_quiet_as_a_whole_is_told_of_by_the_clock():
    async def run():
        log = Partition([])
        stage = log.open()
        source = spoken(*range(1, 21))
        await stage.handle(ESTIMATES, source)
        await log.settle(stage)
        await log.seconds(stage, 600)
        assert log.alerts == []
        await log.seconds(stage, 3)
        # The broker was asked whether anything has come since the newest estimate did.
        assert log.clock.asked == [source[-1].timestamp + 90_000]
        return log

    (event,) = asyncio.run(run()).alerts
    assert (event.event, event.id, event.reason) == (
        "open", "s/silence/2026-01-01T00:30:00Z",
        "no data for 10 windows, since 2026-01-01T00:20:00Z (10 min)",
    )  # fmt: skip


def test_silence_of_the_pipelines_own_making_is_not_told():
    async def run():
        log = Partition([])
        stage = log.open()
        await stage.handle(ESTIMATES, spoken(*range(1, 21)))
        await log.settle(stage)
        # What came was not made into estimates: whoever makes them is away.
        log.clock.unheard = False
        await log.seconds(stage, 1500)
        assert log.clock.asked
        # Estimates lie there and are not read: we are behind.
        log.clock.unheard, log.clock.waiting = True, True
        await log.seconds(stage, 1500)
        # The machine slept.
        log.clock.waiting = False
        log.clock.seconds += 86_400
        await log.seconds(stage, 500)
        # Without a clock, as in a replay, nothing passes.
        stage._quiet = None
        await log.seconds(stage, 2000)
        return log

    assert asyncio.run(run()).alerts == []


@pytest.mark.parametrize("seed", range(12))
def test_killed_anywhere_while_time_passes_it_tells_the_same_events(seed):
    """Time that was committed passes at the same place of the log for whoever comes after."""
    draw = random.Random(seed)
    source, minute = [], 0
    for part in range(5):
        for _ in range(10):
            minute += 1
            source += [
                one for name in ("s", "t")[: 2 - part % 2] for one in minutes((minute, 10), station=name)
            ]
        minute += 40
    source = records(source)
    part_of = [draw.randint(5, 15) for _ in range(12)]

    async def run():
        log, position, passed = Partition([]), 0, []
        stage = log.open()

        async def settled():
            await log.settle(stage)
            passed.append(log.commits[ESTIMATES])

        for size in part_of:
            await stage.handle(ESTIMATES, source[position : position + size] or source[-1:])
            position = min(position + size, len(source))
            for _ in range(draw.choice((1, 300, 900))):  # of time in which nothing comes
                log.clock.seconds += 5
                fate = draw.random()
                if fate < 0.002:  # killed, perhaps amid a commit, perhaps before it had told what it knew
                    await log.settle(stage, commit=False)
                    stage, position = log.open(), log.commits[ESTIMATES][0]
                elif fate < 0.5:
                    await settled()
                else:
                    await stage.tick()
        while position < len(source):
            await stage.handle(ESTIMATES, source[position : position + 7])
            position += 7
        return log, passed

    log, passed = asyncio.run(run())
    told: dict[tuple[str, int], Alert] = {}
    for one in log.alerts:
        assert told.setdefault((one.id, one.sequence), one) == one
    assert len(told) > 4
    assert any(time for _, time in passed)
    # As if nobody had been killed, and the committed times had passed where they were committed.
    calm, events, position = Watch(QUIET, 10 * MINUTE), [], 0
    estimates = [Estimate.model_validate_json(one.value) for one in source]
    for offset, time in passed:
        events += calm.feed(estimates[position:offset])
        position = max(position, offset)
        events += calm.pass_time(int(time or 0))
    events += calm.feed(estimates[position:])
    assert told == {(one.id, one.sequence): one for one in events}


def tombstone(station, at, offset=0):
    return ConsumerRecord(STATIONS, 1, offset, at, 1, station.encode(), None, None, 0, 0, ())


def test_a_station_whose_record_is_taken_back_is_retired_and_stays_so():
    async def run(killed):
        log = Partition([])
        stage = log.open()
        await stage.handle(ESTIMATES, spoken(*range(1, 21)))
        await log.settle(stage)
        await log.seconds(stage, 603)
        at = (T0 + 40 * 60) * 1000
        if killed == "before":
            stage = log.open()
        await stage.handle(STATIONS, [tombstone("s", at), tombstone("nobody", at, 1)])
        await log.settle(stage)
        if (
            killed == "after"
        ):  # nothing came after it, so the state is that of before; its record is read again
            assert STATIONS not in log.commits
            stage = log.open()
            await stage.handle(STATIONS, [tombstone("s", at), tombstone("nobody", at, 1)])
        await stage.handle(ESTIMATES, later(21, "nbr"))
        await log.settle(stage)
        assert log.commits[STATIONS] == (2, "")
        if killed == "after":
            stage = log.open()
        await log.seconds(stage, 300)
        return log.alerts

    def later(minute, station):
        (record,) = spoken(minute, station=station)
        record.offset = 20
        return [record]

    for killed in ("never", "before", "after"):
        told = {(one.id, one.sequence): one for one in asyncio.run(run(killed))}
        assert [(one.event, one.reason[:7]) for one in told.values()] == [
            ("open", "no data"), ("clear", "retired"),
        ]  # fmt: skip


def test_a_worker_that_starts_with_wrong_rules_waits_until_they_are_mended(tmp_path, caplog):
    file = tmp_path / "rules.toml"
    file.write_text("[[rule]]\n")
    waits = []

    def wait(seconds):
        waits.append(seconds)
        if len(waits) == 3:
            file.write_text("rule = []")

    assert RulesSource.when_right(file, wait)() == AlertRules()
    assert waits == [1.0] * 3
    # Said once, not once a second.
    assert len([record for record in caplog.records if "until the rules are mended" in record.message]) == 1


def test_a_save_that_is_cut_short_ends_no_alert_and_its_complaint_ends_when_it_is_mended(tmp_path, caplog):
    file = tmp_path / "rules.toml"
    file.write_text('[[rule]]\nid = "a"\nwhat = "silence"\nsteps = [{ severity = "minor", enter = 3 }]\n')
    source = RulesSource(file)
    kept = source()
    text = file.read_text()
    file.write_text("")
    assert source() is kept
    assert "there is no [[rule]] in it" in caplog.text
    assert REGISTRY.get_sample_value("aq_alert_rules_refused") == 1
    file.write_text(text)
    assert source() == kept
    assert REGISTRY.get_sample_value("aq_alert_rules_refused") == 0
