"""The network stage behind the broker: killed workers leave the series as if nothing had happened."""

import math
import random
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from infra.stack.broker import EmbeddedBroker
from schemas.station import Station
from schemas.times import HOUR_MS
from settings.sections import KafkaSettings, NetworkSettings, Settings, WindowSettings
from streams import topics
from tests.harness import Sent, fleet, punctuations, reading, send, stored, until

pytestmark = [pytest.mark.broker]

PARTITIONS = 2
START = 1_750_240_800_000
MINUTES = 130
RULES = WindowSettings(
    size=timedelta(minutes=5),
    grace=timedelta(seconds=5),
    allowed_lateness=timedelta(minutes=10),
    disorder=timedelta(seconds=10),
    idle_timeout=None,
)
STATIONS = ("st-0", "st-1", "st-2", "st-3", "alone")


def progress(at: int) -> list[Sent]:
    """Punctuations of both sides; there are no pictures, so no worker makes features of them."""
    return [
        replace(one, topic=topics.FEATURES if one.topic == topics.FRAMES else one.topic)
        for one in punctuations(at, PARTITIONS)
    ]


def records() -> list[Sent]:
    """Four stations of a town, of which one never measures CO and another falls silent, and one far from
    any; some readings come late.
    """
    dice = random.Random(1)
    sent: list[tuple[int, Sent]] = []
    for number, name in enumerate(STATIONS):
        for minute in range(0, MINUTES, 2):
            at = START + minute * 60_000 + number * 1000
            level = 40 + 15 * math.sin(minute / 25) + dice.uniform(-2, 2)
            values = {"pm25": round(level, 2), "co": round(15 * level + 100, 1)}
            if name == "st-1":
                del values["co"]
            if name == "st-2" and minute > 70:
                continue
            late = 400_000 if dice.random() < 0.05 else 0
            sent.append((at + late, reading(name, at, values)))
    for minute in range(0, MINUTES, 10):
        at = START + minute * 60_000
        sent += [(at, one) for one in progress(at) if one.topic == topics.FEATURES]
    sent.sort(key=lambda pair: pair[0])
    placed = [
        Sent(
            topics.STATIONS, name.encode(),
            Station(
                station=name,
                latitude=None if name == "alone" else 45.0 + 0.02 * number,
                longitude=None if name == "alone" else 9.0,
            ).model_dump_json().encode(),
        )
        for number, name in enumerate(STATIONS)
    ]  # fmt: skip
    return [
        *placed,
        *progress(START),
        *(record for _, record in sent),
        *progress(START + MINUTES * 60_000 + 2 * HOUR_MS),
    ]


def test_kills_of_fusion_and_the_network_change_nothing(broker: EmbeddedBroker, tmp_path: Path) -> None:
    log = records()
    roles = ("fusion", "network", "sink")

    def settings(name: str) -> Settings:
        return Settings(
            data_dir=tmp_path / name,
            kafka=KafkaSettings(bootstrap=broker.bootstrap, prefix=f"{name}.", partitions=PARTITIONS),
            window=RULES,
            network=NetworkSettings(enabled=True),
        )

    windows = MINUTES // 5
    last = START // 1000 + windows * 300
    for name in ("calm", "storm"):
        (tmp_path / f"{name}-logs").mkdir()
    calm = settings("net-calm")
    with fleet(calm, tmp_path / "calm-logs", roles) as workers:
        send(calm, log)
        until(
            "the undisturbed run",
            lambda: workers.check() and {(one, last) for one in STATIONS} <= set(stored(calm)),
            150,
        )
        until("it to be still", _still(calm), 90)
    undisturbed = stored(calm)
    assert {key for key in undisturbed if key[0] == "st-2"} == {
        ("st-2", START // 1000 + number * 300) for number in range(1, windows + 1)
    }
    storm = settings("net-storm")
    victims = ["network", "fusion", "network"]
    size = -(-len(log) // len(victims))
    with fleet(storm, tmp_path / "storm-logs", roles) as workers:
        for number, victim in enumerate(victims):
            before = len(stored(storm))
            send(storm, log[number * size : (number + 1) * size])
            until("some progress", lambda: len(stored(storm)) > before or number == 0, 90)  # noqa: B023
            workers.kill(victim)
            workers.revive()

        def finished() -> bool:
            workers.revive()
            return stored(storm) == undisturbed

        try:
            until("the disturbed run to equal the undisturbed one", finished, 150)
        except AssertionError:
            found = stored(storm)
            differing = sorted(key for key in undisturbed if found.get(key) != undisturbed[key])
            for key in differing[:2]:
                print(
                    undisturbed[key].model_dump_json(),
                    key in found and found[key].model_dump_json(),
                    sep="\n",
                )
            raise AssertionError(f"{len(differing)} differ: {differing[:5]}") from None
    silent = undisturbed["st-2", last]
    assert silent.unheard
    assert silent.pollutants["pm25"].method == "network"
    never = undisturbed["st-1", last].pollutants["co"]
    assert never.kind == "imputed"
    assert never.weights["neighbours"] > 0.3
    truth = undisturbed["st-0", last].pollutants["co"].value
    assert abs(never.value - truth) < 0.3 * truth
    assert "network" not in {one.method for one in undisturbed["alone", last].pollutants.values()}


def _still(settings: Settings) -> Callable[[], bool]:
    seen: list[object] = []

    def same() -> bool:
        now = {key: one.revision for key, one in stored(settings).items()}
        if seen and seen[-1] == now:
            seen.append(now)
        else:
            seen[:] = [now]
        return len(seen) > 40

    return same
