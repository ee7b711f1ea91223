"""kill -9 of workers and of the broker at random points: the series comes out as if nothing had happened."""

import random
from pathlib import Path
from typing import Any

import pytest

from infra.stack.broker import EmbeddedBroker
from settings.sections import InfluxSettings, KafkaSettings, Settings
from tests.engines import Influx1
from tests.harness import REPLAY, city, expected_windows, fleet, send, stored, until

pytestmark = [pytest.mark.broker, pytest.mark.slow]

KILLS = 20
PARTITIONS = 2


def series(engine: tuple[Influx1, str], database: str) -> list[Any]:
    """Everything in a database."""
    return sorted(
        engine[0].query("SELECT * FROM /.*/ GROUP BY *", database),
        key=lambda one: (one["name"], str(one["tags"])),
    )


def test_twenty_kills_change_nothing(
    restartable_broker: EmbeddedBroker, tmp_path: Path, engine: tuple[Influx1, str] | None
) -> None:
    dice = random.Random(20)
    records = city(seed=2, stations=6, minutes=40, partitions=PARTITIONS)
    wanted = expected_windows(records)

    def settings(name: str) -> Settings:
        kafka = KafkaSettings(
            bootstrap=restartable_broker.bootstrap, prefix=f"{name}.", partitions=PARTITIONS
        )
        influx = InfluxSettings()
        if engine is not None:
            for database in (name, f"{name}_hourly", f"{name}_daily"):
                engine[0].create_database(database)
            influx = InfluxSettings(url=engine[1], bucket=name)
        return Settings(data_dir=tmp_path / name, kafka=kafka, window=REPLAY, influx=influx)

    (tmp_path / "calm-logs").mkdir()
    (tmp_path / "storm-logs").mkdir()
    calm = settings("calm")
    with fleet(calm, tmp_path / "calm-logs") as workers:
        send(calm, records)
        until("the undisturbed run", lambda: workers.check() and set(stored(calm)) >= wanted, 120)
    undisturbed = stored(calm)
    assert set(undisturbed) == wanted

    storm = settings("storm")
    victims = ["vision", "fusion", "sink", "broker"]
    size = -(-len(records) // KILLS)
    with fleet(storm, tmp_path / "storm-logs") as workers:
        for number in range(KILLS):
            send(storm, records[number * size : (number + 1) * size])
            before, more = len(stored(storm)), dice.randrange(1, 8)
            pause = dice.uniform(0.1, 4.0)
            _either(lambda: len(stored(storm)) >= before + more, pause)  # noqa: B023
            victim = victims[number] if number < len(victims) else dice.choice(victims)
            if victim == "broker":
                restartable_broker.kill()
                restartable_broker.start()
            else:
                workers.kill(victim)
            workers.revive()

        def finished() -> bool:
            workers.revive()  # as the supervisor of `up`, or Kubernetes, would
            return stored(storm) == undisturbed

        try:
            until("the disturbed run to equal the undisturbed one", finished, 120)
        except AssertionError:
            found = stored(storm)
            differing = {key for key in wanted & set(found) if found[key] != undisturbed[key]}
            missing, surplus = wanted - set(found), set(found) - wanted
            for key in sorted(differing)[:2]:
                print(undisturbed[key].model_dump_json(), found[key].model_dump_json(), sep="\n")
            raise AssertionError(f"{missing=} {surplus=} {differing=}") from None
        # The store comes first in the sink, InfluxDB after it: give the last batch its moment.
        if engine is not None:
            until("InfluxDB to hold the same", lambda: series(engine, "storm") == series(engine, "calm"), 30)
            until(
                "the hourly means to be the same",
                lambda: series(engine, "storm_hourly") == series(engine, "calm_hourly"),
                30,
            )
            assert sum(len(one["values"]) for one in series(engine, "storm")) > len(wanted)


def _either(condition: object, seconds: float) -> None:
    """Go on at the first of: the condition holds, the time is over."""
    try:
        until("some progress", condition, seconds)  # type: ignore[arg-type]
    except AssertionError:
        return
