"""The alert stage: told before settled, and the same again after a crash, wherever it falls."""

import asyncio
import os
import random
from dataclasses import dataclass, field

import pytest
from aiokafka import ConsumerRecord

from agents.alert import AlertStage, RulesSource
from agents.alerting.errors import RulesError
from agents.alerting.rules import Rules, default
from agents.alerting.stored import read
from agents.alerting.watch import Watch
from schemas.alert import Alert
from schemas.dead_letter import DeadLetter
from schemas.estimate import Estimate
from streams.checkpoint import Checkpoints
from tests.agents.alerting.test_machine import MINUTE, RULES, minutes, rule
from tests.outputs.samples import T0, estimate, imputed, measured


@dataclass
class Kept:
    key: bytes
    value: bytes
    headers: list


@dataclass
class Log:
    """The broker as the stage sees it: an estimates partition, what was produced, what was committed."""

    records: list
    alerts: list = field(default_factory=list)
    letters: list = field(default_factory=list)
    state: dict = field(default_factory=dict)
    committed: int = 0

    rules: object = RULES

    async def publish(self, out):
        for one in out:
            assert one.partition in (1, None)
            if one.topic == "alerts":
                self.alerts.append(Alert.model_validate_json(one.value))
                assert one.key == self.alerts[-1].id.encode()
            elif one.topic == "state":
                self.state[one.key] = Kept(one.key, one.value, list(one.headers))
            else:
                self.letters.append(one)

    def open(self):
        checkpoints = Checkpoints("state", 1)
        return AlertStage(
            lambda: self.rules, checkpoints, checkpoints.load(self.state.values(), self.committed, read),
            self.publish,
            horizon_ms=10 * MINUTE, topic="estimates", alerts_topic="alerts", dead_letter_topic="dlq",
            partition=1, start=self.committed,
        )  # fmt: skip


def records(estimates):
    return [
        ConsumerRecord(
            "estimates", 1, offset, 1_800_000_000_000, 1, b"s",
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
        await log.open().handle("estimates", source)
        return log.alerts

    async def disturbed():
        log = Log(source)
        stage, position = log.open(), 0
        while position < len(source):
            batch = source[position : position + draw.randint(1, 12)]
            await stage.handle("estimates", batch)
            position += len(batch)
            fate = draw.random()
            if fate < 0.4:
                settled = await stage.settle()
                if fate < 0.3:  # else killed between the checkpoint and the commit
                    log.committed = settled["estimates"][0]
                    stage.committed()
                else:
                    stage, position = log.open(), log.committed
            elif fate < 0.6:
                stage, position = log.open(), log.committed
        return log.alerts

    wanted = {(one.id, one.sequence): one for one in asyncio.run(undisturbed())}
    told = asyncio.run(disturbed())
    assert len(wanted) > 5
    unique = {}
    for one in told:
        assert unique.setdefault((one.id, one.sequence), one) == one
    assert unique == wanted


@pytest.mark.parametrize("seed", range(8))
def test_rules_that_change_hold_from_a_committed_offset_on_whoever_is_killed(seed):
    draw = random.Random(seed)
    source = records(city(seed))
    # The steps of one rule move, another rule goes.
    others = Rules(rule=(rule(2 * MINUTE, 2 * MINUTE, ((110, 90), (150, 140))), RULES.rule[2]))

    async def run():
        log = Log(source)
        stage, position, switched = log.open(), 0, None
        while position < len(source):
            batch = source[position : position + draw.randint(1, 12)]
            await stage.handle("estimates", batch)
            position += len(batch)
            if switched is None and position > len(source) // 2:
                log.rules, switched = others, position  # the file is written; the batch was the old rules'
                log.committed = (await stage.settle())["estimates"][0]
                stage.committed()
            elif draw.random() < 0.4:
                await stage.tick()
                stage, position = log.open(), log.committed
            elif draw.random() < 0.5:
                log.committed = (await stage.settle())["estimates"][0]
                stage.committed()
        return log, switched

    log, switched = asyncio.run(run())
    told = {}
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
        await stage.handle("estimates", log.records)
        assert (await stage.settle())["estimates"] == (4, "")
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
