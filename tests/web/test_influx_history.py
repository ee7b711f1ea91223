"""The page's history from a real InfluxDB that the real sink has filled: the local store is the oracle."""

import random

import pytest

from schemas.estimate import MissingPollutant
from schemas.parameters import POLLUTANTS
from settings.sections import InfluxSettings
from sinks.aggregator import Aggregator
from sinks.influx import InfluxBucket, InfluxSink
from sinks.store import Store
from streams.patience import Patience
from tests.engines import free_port
from tests.samples import T0, estimate, imputed, index, measured
from web.errors import RequestProblem
from web.history import StoreHistory
from web.influx_history import InfluxHistory
from web.serve import influx_history

MS = 1000 * T0
DAY = 24 * 3_600_000


def windows(station: str, seed: int):
    """Two hours of everything that a window may be: measured, doubted, imputed, lost, without an index."""
    dice = random.Random(seed)
    made = []
    for n in range(1, 121):
        pollutants, missing = {}, {}
        for name in POLLUTANTS[:3]:
            value = round(dice.uniform(0, 300), 2)
            match dice.randrange(5):
                case 0:
                    pollutants[name] = imputed(value, value / 2, 2 * value)
                case 1:
                    pollutants[name] = measured(value, qc=3, kind="corrected", method="linear:slope=0.8")
                case 2:
                    missing[name] = MissingPollutant(raw=value, qc=4, n=1)
                case 3:
                    pollutants[name] = measured(value)
        points = dice.choice([None, 40, 160])
        block = index(points, imputed_share=dice.choice([0.0, 0.4, 0.9]), lo=points and points - 5)
        made.append(estimate(station, T0 + 60 * n, 1, pollutants, (block,), missing=missing))
    return made


@pytest.mark.engine
def test_influxdb_tells_what_the_store_tells(tmp_path, influx, proxy):
    for kind in ("hourly", "daily"):
        influx.create_database(f"{influx.database}_{kind}")
    past = [*windows("a", 1), *windows("b", 2)]
    sink = InfluxSink(
        InfluxBucket(proxy(influx.url, influx1=True).url, "o", influx.database), "t",
        Patience(wait=lambda _: True),
    )  # fmt: skip
    file, token = tmp_path / "s.sqlite", tmp_path / "read.token"
    token.write_text("t\n")
    with Store(file, aggregates=True) as store:
        store.write(past)
        assert sink.write(past) == []
        Aggregator(store, sink, influx.database, mine=lambda _: True).after([estimate("a", T0 + 3 * 3600)])
    stored, found = StoreHistory(file), InfluxHistory(influx.url, influx.database, token)
    begin, end = MS - DAY, MS + DAY
    try:
        for station in ("a", "b", "nobody"):
            for name in POLLUTANTS:
                told = found.concentrations(station, name, begin, end)
                assert told == stored.concentrations(station, name, begin, end), (station, name)
            assert found.indices(station, "us-epa-2024", begin, end) == stored.indices(
                station, "us-epa-2024", begin, end
            )
        assert len(found.indices("a", "us-epa-2024", begin, end)) == 120
        assert found.indices("a", "nobody's '\\", begin, end) == []
        half = MS + 3_600_000
        for since in (begin, half):
            assert found.flags(["a", "b", "nobody"], since) == stored.flags(["a", "b", "nobody"], since)
        # Of windows that have left their bucket the hours are there.
        influx.query(f"DELETE FROM aq WHERE time <= {half}ms")
        left = found.concentrations("a", "pm25", begin, end)
        assert left[0].at == half
        assert left[0].value is not None
        assert 0 < left[0].value < 300
        assert [one.at for one in left[1:]] == [half + 60_000 * n for n in range(1, 61)]
    finally:
        found.close()
        stored.close()


def test_it_is_read_where_a_token_is_set_that_may_read(tmp_path):
    address = f"http://127.0.0.1:{free_port()}"
    token = tmp_path / "read.token"
    assert influx_history(InfluxSettings()) is None
    assert influx_history(InfluxSettings(url=address)) is None
    away = influx_history(InfluxSettings(url=address, read_token_file=token))
    assert away is not None
    for _ in ("no token", "nobody answers"):
        with pytest.raises(RequestProblem) as problem:
            away.indices("a", "us-epa-2024", 0, 1000)
        assert problem.value.status == 503
        token.write_text("t")
    away.close()
