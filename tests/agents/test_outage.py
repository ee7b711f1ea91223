"""The real sink worker through an outage in real time: the series is the undisturbed one, memory is bounded.

Here the server stays away until the worker has tried some times in vain; SKYFUSE_OUTAGE_SECONDS=300 makes it
the five minutes whose figures are in docs/performance.md (`pytest -s` prints them).
"""

import os
import resource
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from infra.stack.broker import EmbeddedBroker
from settings.sections import InfluxSettings, KafkaSettings, Settings
from streams import topics
from tests.engines import Fault, FaultProxy, influxdb
from tests.harness import Fleet, Sent, fleet, read_all, send, until
from tests.samples import T0, estimate, imputed, index, measured

pytestmark = [pytest.mark.broker, pytest.mark.engine, pytest.mark.slow]

#: The outage lasts at least so long, so many attempts, and so many windows.
SECONDS = float(os.environ.get("SKYFUSE_OUTAGE_SECONDS", "0"))
TRIES, WINDOWS = 5, 8
STATIONS = 50
#: The first window's number: an hour and the day end in the outage.
FIRST = 1433
#: More than what the worker fetches ahead of a sink that waits; less than what piled-up batches would take.
GROWTH_MB = 80


def minute(number: int, revision: int = 1) -> list[Sent]:
    """One window of every station; some have an imputed value, one in ten is a revision that has less."""
    made = []
    for station in range(STATIONS):
        value = float((number * 7 + station * 3) % 90)
        pollutants = {"pm25": measured(value), "no2": imputed(value, value / 2, value * 2)}
        if revision == 2 and station % 10 == 0:
            del pollutants["no2"]
        one = estimate(
            f"s{station}", T0 + 60 * number, revision, pollutants, (index(min(199, int(value) + 10)),)
        )
        made.append(Sent(topics.ESTIMATES, one.station.encode(), one.model_dump_json().encode()))
    return made


def bad(number: int) -> Sent:
    """An estimate of which InfluxDB refuses one line: its key is too long."""
    one = estimate("s1", T0 + 60 * number, 9, indices=(index(standard="s" * 70_000),))
    return Sent(topics.ESTIMATES, one.station.encode(), one.model_dump_json().encode())


def rss_mb(workers: Fleet) -> float:
    """Resident memory of the sink worker now."""
    status = Path(f"/proc/{workers.pid('sink')}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def test_an_outage_leaves_no_trace(broker: EmbeddedBroker, topic_prefix: str, tmp_path: Path) -> None:
    (tmp_path / "influx").mkdir()
    with ExitStack() as engine:
        influx = engine.enter_context(influxdb(tmp_path / "influx"))
        proxies = {name: FaultProxy(influx.url, influx1=True) for name in ("calm", "storm")}
        made: dict[str, Settings] = {}
        for name, proxy in proxies.items():
            for database in (name, f"{name}_hourly", f"{name}_daily"):
                influx.create_database(database)
            made[name] = Settings(
                data_dir=tmp_path / name,
                kafka=KafkaSettings(
                    bootstrap=broker.bootstrap, prefix=f"{topic_prefix}{name}.", partitions=2
                ),
                influx=InfluxSettings(url=proxy.url, bucket=name),
            )
            (tmp_path / f"{name}-logs").mkdir()

        def series(name: str) -> list[Any]:
            found: list[Any] = []
            for database in (name, f"{name}_hourly", f"{name}_daily"):
                one = influx.query("SELECT * FROM /.*/ GROUP BY *", database)
                found += sorted(one, key=lambda each: (each["name"], str(each["tags"])))
            return found

        def points(name: str) -> int:
            return sum(len(one["values"]) for one in influx.query('SELECT "n" FROM aq GROUP BY *', name))

        sent: list[Sent] = []
        storm = made["storm"]
        with fleet(storm, tmp_path / "storm-logs", ["sink"]) as workers:

            def tell(records: list[Sent]) -> None:
                sent.extend(records)
                send(storm, records)

            def told() -> int:
                return (number - FIRST + 1) * STATIONS * 6

            before = during = 0.0
            for number in range(FIRST, FIRST + 5):
                tell(minute(number))
                until("the first points", lambda: points("storm") >= told())
                before = max(before, rss_mb(workers))

            proxies["storm"].down()
            held, first = points("storm"), number
            waited = workers.log("sink").count("a sink waits")

            def tries() -> int:
                return workers.log("sink").count("a sink waits") - waited

            began = second = time.monotonic()
            while number < first + WINDOWS or tries() < TRIES or time.monotonic() < began + SECONDS:
                number += 1
                tell([*minute(number), *(minute(number - 2, revision=2) if number % 5 == 0 else [])])
                if number == first + 3:
                    tell([bad(FIRST + 3)])
                during = max(during, rss_mb(workers))
                workers.check()
                # Windows come once a second, or as fast as the worker tries where that is faster.
                second, heard = max(second + 1, time.monotonic()), tries()
                until("another try", lambda: tries() > heard or time.monotonic() > second)  # noqa: B023
            assert points("storm") == held
            gone, lasted = number, time.monotonic() - began

            answers = ((429, "1"), (503, "2"), (503, "1"))
            proxies["storm"].faults.extend(Fault(status, {"Retry-After": wait}) for status, wait in answers)
            proxies["storm"].up()
            back = time.monotonic()
            until("the backlog to be written", lambda: points("storm") >= told(), 90)
            caught_up = time.monotonic() - back
            assert not proxies["storm"].faults

            resource.prlimit(influx.process.pid, resource.RLIMIT_FSIZE, (1, -1))
            for number in range(gone + 1, gone + 6):
                tell([*minute(number), *minute(FIRST + number - gone, revision=2)])
            until("the full disk to be told of", lambda: "file too large" in workers.log("sink"))
            during = max(during, rss_mb(workers))
            engine.close()
            engine.enter_context(influxdb(tmp_path / "influx", port=urlsplit(influx.url).port))
            until("the rest to be written", lambda: points("storm") >= told(), 90)
            workers.check()
            after = rss_mb(workers)
            until("the bad line's letter", lambda: len(read_all(storm, topics.DEAD_LETTERS)) == 1)

        with fleet(made["calm"], tmp_path / "calm-logs", ["sink"]) as workers:
            send(made["calm"], sent)
            until("the undisturbed run", lambda: points("calm") >= told(), 90)
            until("the bad line's letter", lambda: len(read_all(made["calm"], topics.DEAD_LETTERS)) == 1)
            until("both series to be the same", lambda: series("calm") == series("storm"), 30)
            assert {one["name"] for one in series("calm")} >= {
                "aq", "aqi", "station_state", "aq_hourly", "aqi_hourly", "aq_daily", "aqi_daily",
            }  # fmt: skip
        for proxy in proxies.values():
            proxy.close()
        print(
            f"gone {lasted:.0f} s, {(gone - first) * STATIONS} estimates meanwhile,"
            f" written {caught_up:.1f} s later;"
            f" RSS at most {before:.0f} MB before, {during:.0f} MB during, {after:.0f} MB after"
        )
        assert during < before + GROWTH_MB
