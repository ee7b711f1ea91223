"""Rules about what is to come: the evidence by hand, the same state machine, the same after any crash."""

import asyncio
import json
import random
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from aiokafka import ConsumerRecord
from typer.testing import CliRunner

from agents.alert import AlertStage, AlertStages
from agents.worker import started
from alerting.errors import RulesError
from alerting.evidence import Evidence, foresee
from alerting.explained import explain_station, explain_worker, pending
from alerting.rules import AlertRules, Rule, parse
from alerting.stored import FORESEEN, read
from alerting.watch import Watch
from cli.alerts import app
from exchange import cap
from schemas.alert import Alert
from schemas.base import from_ms
from schemas.forecast import FORECAST_HOURS, Forecast, IndexForecast, PollutantForecast
from schemas.times import HOUR_MS
from settings.sections import ForecastSettings, Settings
from streams.accept import Keys
from streams.checkpoint import Checkpoints
from streams.stage import StageIo
from tests.samples import T0, estimate, measured

RULES = """
[[rule]]
id = "pm25-to-come"
what = "forecast"
parameter = "pm25"
within = "12h"
clear_after = "2h"
steps = [
    { severity = "minor", enter = 150, leave = 120 },
    { severity = "severe", enter = 250, leave = 200 },
]

[[rule]]
id = "plume"
what = "concentration"
parameter = "pm25"
steps = [{ severity = "minor", enter = 75, leave = 60 }]
"""


def hours(*named, rest=40.0):
    """72 values, those at (hour ahead, value) as named."""
    values = [rest] * FORECAST_HOURS
    for ahead, value in named:
        values[ahead - 1] = value
    return tuple(values)


def forecast(hour=0, *named, station="s", revision=1, imputed=0.0, index=()):
    """Its quantiles are the named values times 0.4, 0.5, 0.8, 1, 1.2, 1.5, 1.6."""
    factors = (0.4, 0.5, 0.8, 1.0, 1.2, 1.5, 1.6)
    middle = hours(*named)
    return Forecast(
        station=station, issued_at=from_ms((T0 + 3600 * hour) * 1000), revision=revision, model="m",
        pollutants={
            "pm25": PollutantForecast(
                mean=middle, quantiles=tuple(tuple(one * by for one in middle) for by in factors),
                imputed_share=imputed,
            )
        },
        indices=index,
    )  # fmt: skip


def rule(**more):
    fields = {
        "id": "r", "what": "forecast", "parameter": "pm25", "within": "12h",
        "steps": [{"severity": "minor", "enter": 150, "leave": 120}],
    }  # fmt: skip
    return Rule.model_validate_json(json.dumps(fields | more))


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, 160.0),  # the median of the sixth hour: 180 comes in the thirteenth
        ({"within": "5h"}, 40.0),
        ({"within": "13h"}, 180.0),
        ({"probability": 0.25}, 192.0),  # the .75 quantile, 1.2 times the median
        ({"probability": 0.05}, 256.0),
        ({"probability": 0.95}, 64.0),
    ],
)
def test_the_evidence_is_the_highest_quantile_of_the_hours_to_come(more, expected):
    one = forecast(0, (6, 160.0), (13, 180.0))
    found = foresee(rule(**more), one)
    assert isinstance(found, Evidence)
    assert found.value == pytest.approx(expected)


def test_of_an_index_it_is_the_median_or_an_end():
    whole = IndexForecast(
        standard="us-epa-2024", index=(None, *[90] * 70, 200), lo=(None, *[60] * 71),
        hi=(None, 155, *[150] * 70), categories=("Good",), probabilities=(hours(rest=1.0),),
    )  # fmt: skip
    one = forecast(index=(whole,))
    kind = {"what": "forecast_index", "standard": "us-epa", "parameter": None}
    assert foresee(rule(**kind), one) == Evidence.exact(90.0)
    assert foresee(rule(**kind, within="72h"), one) == Evidence.exact(200.0)
    assert foresee(rule(**kind, probability=0.05), one) == Evidence.exact(155.0)
    assert foresee(rule(**kind, probability=0.95), one) == Evidence.exact(60.0)
    assert foresee(rule(**kind, within="1h"), one) == "us-epa gives no index"
    assert "not foretold" in foresee(rule(**kind | {"standard": "in-naqi-2014"}), one)


def test_a_guess_is_no_evidence():
    high = ((1, 400.0),)
    assert foresee(rule(), forecast(0, *high, imputed=0.9)) == Evidence.exact(400.0)
    assert "not measured in the last 24 hours" in foresee(rule(), forecast(0, *high, imputed=1.0))
    assert "not foretold" in foresee(rule(parameter="o3"), forecast(0, *high))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('what = "forecast"\nparameter = "pm25"', "within: what = \"forecast\" needs it"),
        ('what = "forecast"\nparameter = "pm25"\nwithin = "90m"', "within: whole hours, 72 at most"),
        ('what = "forecast"\nparameter = "pm25"\nwithin = "73h"', "within: whole hours, 72 at most"),
        ('what = "forecast"\nparameter = "pm25"\nwithin = "6h"\nprobability = 0.6', "one of 0.05, 0.1, 0.25"),
        ('what = "forecast_index"\nstandard = "us-epa"\nwithin = "6h"\nprobability = 0.25', "0.5, 0.95"),
        ('what = "forecast"\nparameter = "pm25"\nwithin = "6h"\nrests_on = "any"', "rests_on: "),
        ('what = "concentration"\nparameter = "pm25"\nwithin = "6h"', "concentration\" has no use"),
        ('what = "index"\nstandard = "us-epa"\nprobability = 0.5', "index\" has no use"),
        ('what = "forecast"\nstandard = "us-epa"\nwithin = "6h"', "standard: what = \"forecast\" has no use"),
    ],
)  # fmt: skip
def test_a_rule_that_does_not_fit_is_refused_in_words(line, words):
    text = f'[[rule]]\nid = "a"\n{line}\nsteps = [{{ severity = "minor", enter = 1 }}]\n'
    with pytest.raises(RulesError) as raised:
        parse(text, "rules.toml")
    assert words in str(raised.value)
    assert str(raised.value).startswith("rules.toml:")


def test_an_alert_opens_rises_falls_and_clears_by_hand():
    watch = Watch(parse(RULES, "r").on_forecasts, HOUR_MS)
    peaks = [100.0, 160.0, 260.0, 130.0, 119.0, 119.0, 119.0]
    events = watch.feed([]) + watch.foresee([forecast(n, (3, peak)) for n, peak in enumerate(peaks)])
    assert [(one.event, one.severity, one.at.hour) for one in events] == [
        ("open", "minor", 1), ("update", "severe", 2), ("update", "minor", 5), ("clear", "minor", 6),
    ]  # fmt: skip
    assert events[0].id == "s/pm25-to-come/2026-01-01T01:00:00Z"
    assert events[0].reason == (
        "pm25 that an hour of the next 12 reaches with a probability of 50 % is 160 ug/m3, at or above 150"
        " ug/m3 since 2026-01-01T01:00:00Z (0 s)"
    )
    message = cap.render(events[0], parse(RULES, "r").rule[0], sender="a@b")
    assert "<urgency>Future</urgency>" in message
    assert "<certainty>Possible</certainty>" in message


def test_a_forecast_that_is_made_again_takes_back_what_it_said():
    watch = Watch(parse(RULES, "r").on_forecasts, HOUR_MS)
    said = [forecast(0, (3, 100.0)), forecast(1, (3, 160.0)), forecast(1, (3, 140.0), revision=2)]
    events = watch.foresee([*said, *said])  # told again after a crash: nothing more
    assert [(one.event, one.sequence) for one in events] == [("open", 0), ("retract", 1)]


def test_explained_and_on_its_way():
    rules = parse(RULES.replace('"12h"', '"12h"\nopen_after = "2h"'), "r")
    watch = Watch(rules.on_forecasts, HOUR_MS)
    watch.foresee([forecast(0, (3, 160.0)), forecast(1, (3, 170.0))])
    state = watch.states()["s"]
    assert [(one.rule, one.severity, one.at) for one in pending(rules, state)] == [
        ("pm25-to-come", "minor", (T0 + 7200) * 1000)
    ]
    ahead, plume = explain_worker(rules, {FORESEEN + "s": state}, [], "s")
    assert "is 170 ug/m3" in ahead.text
    assert "knows nothing" in plume.text
    stored = explain_station(rules, [estimate("s", T0 + 60)], "s", 0, [forecast(1, (3, 170.0))])
    assert "is 170 ug/m3" in stored[0].text
    assert "pm25 is 12 ug/m3" in stored[1].text
    assert "no forecast has been seen" in explain_station(rules, [estimate("s", T0 + 60)], "s")[0].text


ESTIMATES, FORECASTS, STATIONS = "aq.estimates.v1", "aq.forecasts.v1", "aq.stations.v1"


@dataclass
class Kept:
    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]


@dataclass
class Broker:
    """Two logs, the state's topic, what was told; commits that may not come."""

    rules: AlertRules = field(default_factory=lambda: parse(RULES, "r"))
    told: dict[tuple[str, int], set[bytes]] = field(default_factory=dict)
    state: dict[bytes, Kept] = field(default_factory=dict)
    committed: dict[str, tuple[int, str]] = field(default_factory=dict)

    async def publish(self, out):
        for one in out:
            if one.topic == "aq.alerts.v1":
                event = Alert.model_validate_json(one.value)
                self.told.setdefault((event.id, event.sequence), set()).add(one.value)
            elif one.topic == "state":
                self.state[one.key] = Kept(one.key, one.value, list(one.headers))

    def open(self):
        io = StageIo(0, self.publish, committed=self.committed)
        both = []
        lanes: tuple[tuple[Literal["estimates", "forecasts"], str], ...] = (
            ("estimates", ESTIMATES), ("forecasts", FORECASTS),
        )  # fmt: skip
        for on, topic in lanes:
            checkpoints = Checkpoints("state", 0)
            start, _ = self.committed.get(topic, (0, ""))
            ahead = on == "forecasts"
            mine = [one for key, one in self.state.items() if key.startswith(FORESEEN.encode()) == ahead]
            states = checkpoints.load(mine, start, read)
            both.append(
                AlertStage(
                    io, Keys(1), lambda: self.rules, checkpoints,
                    {name.removeprefix(FORESEEN): state for name, state in states.items()},
                    horizon_ms=HOUR_MS, on=on,
                )
            )  # fmt: skip
        return AlertStages(io, *both)


def logs(seed):
    dice = random.Random(seed)
    made: dict[str, list[Any]] = {ESTIMATES: [], FORECASTS: []}
    for hour in range(60):
        for name in "ab":
            peak = dice.choice((90.0, 130.0, 170.0, 280.0))
            made[FORECASTS].append(forecast(hour, (dice.randrange(1, 20), peak), station=name))
            made[ESTIMATES].append(
                estimate(name, T0 + 3600 * hour + 60, 1, {"pm25": measured(dice.uniform(30, 110))})
            )
        if dice.random() < 0.3:
            made[FORECASTS].append(forecast(hour, (2, 160.0), station="a", revision=2))
    return {
        topic: [
            ConsumerRecord(
                topic, 0, offset, 1_800_000_000_000, 1, one.station.encode(),
                one.model_dump_json().encode(), None, 0, 0, (),
            )
            for offset, one in enumerate(some)
        ]
        for topic, some in made.items()
    }  # fmt: skip


async def played(broker, log, dice, crashes):
    stage, at = broker.open(), dict.fromkeys(log, 0)
    while any(at[topic] < len(log[topic]) for topic in log):
        topic = dice.choice([name for name in log if at[name] < len(log[name])])
        some = log[topic][at[topic] : at[topic] + dice.randrange(1, 20)]
        await stage.handle(topic, some)
        at[topic] += len(some)
        chance = dice.random()
        if chance < 0.6:
            settled = await stage.settle()
            if chance < 0.4:
                broker.committed |= settled
                stage.committed()
        if crashes and dice.random() < 0.3:
            stage = broker.open()
            at = {name: broker.committed.get(name, (0, ""))[0] for name in log}


@pytest.mark.parametrize("seed", range(3))
def test_crashes_change_no_event_of_either_log(seed):
    log = logs(seed)
    calm, storm = Broker(), Broker()
    asyncio.run(played(calm, log, random.Random(seed), crashes=False))
    asyncio.run(played(storm, log, random.Random(seed + 100), crashes=True))
    assert storm.told == calm.told
    assert {key[0].split("/")[1] for key in calm.told} == {"pm25-to-come", "plume"}
    assert any(key.startswith(FORESEEN.encode()) for key in storm.state)


def test_station_records_are_settled_once_both_have_kept_what_they_changed():
    log, broker = logs(0), Broker()
    gone = ConsumerRecord(STATIONS, 0, 4, (T0 + 7200) * 1000, 1, b"a", None, None, 0, 0, ())

    async def run():
        stage = broker.open()
        for topic in (ESTIMATES, FORECASTS):
            await stage.handle(topic, log[topic][:4])
        await stage.settle()
        stage.committed()
        await stage.handle(STATIONS, [gone])
        await stage.handle(ESTIMATES, log[ESTIMATES][4:6])
        first = await stage.settle()
        await stage.handle(FORECASTS, log[FORECASTS][4:6])
        return first, await stage.settle()

    first, second = asyncio.run(run())
    assert STATIONS not in first, "what the forecasts' states forgot is not written yet"
    assert second[STATIONS] == (5, "")


def test_a_rules_file_is_checked_by_a_command(tmp_path, monkeypatch):
    monkeypatch.setenv("SKYFUSE_CONFIG", "")
    file = tmp_path / "rules.toml"
    file.write_text(RULES)
    checked = CliRunner(env={"COLUMNS": "250"}).invoke(app, ["check", str(file)])
    assert checked.exit_code == 0
    first, _, last = checked.stdout.splitlines()
    assert first.startswith(
        "pm25-to-come  pm25 that an hour of the next 12 reaches with a probability of 50 %"
    )
    assert first.endswith("minor from 150 ug/m3, severe from 250 ug/m3")
    assert last == f"{file}: 2 rules, no mistake"
    file.write_text(RULES.replace('within = "12h"\n', ""))
    wrong = CliRunner().invoke(app, ["check", str(file)])
    assert isinstance(wrong.exception, RulesError)
    assert f'{file}:2: within: what = "forecast" needs it' in str(wrong.exception)


def test_up_makes_forecasts_and_a_replay_where_it_is_asked_to():
    asked = {up: Settings(forecast=ForecastSettings(up=up)) for up in (None, True, False)}
    assert [up for up, one in asked.items() if "forecast" in started(one, replay=False)] == [None, True]
    assert [up for up, one in asked.items() if "forecast" in started(one, replay=True)] == [True]
