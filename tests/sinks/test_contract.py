"""What every sink keeps, whichever it is: found by itself for each class in `sinks` that writes estimates.

Each is tried behind the store, as the sink stage writes: what the store says is newest goes to the others.
"""

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import sinks
from infra.stack.cache import EmbeddedCache
from schemas.estimate import Estimate
from sinks.cache import LatestCache
from sinks.influx import InfluxBucket, InfluxSink
from sinks.store import Store
from streams.patience import Patience
from tests.influx2 import Influx2
from tests.samples import T0, estimate, imputed, index, measured
from tests.sinks.lines import read

Write = Callable[[Sequence[Estimate]], object]
#: What a sink has of the estimates, in a form of its own.
Has = Callable[[], Any]


@contextmanager
def store(folder: Path, kept: Store) -> Iterator[tuple[Write, Has]]:
    del folder
    yield (lambda _: None), (lambda: [one.model_dump_json() for one in kept.read()])


@contextmanager
def cache(folder: Path, kept: Store) -> Iterator[tuple[Write, Has]]:
    del kept
    with EmbeddedCache(folder / "cache") as server:
        client = LatestCache(server.url)
        yield client.write, lambda: sorted(one.model_dump_json() for one in client.read())
        client.close()


@contextmanager
def influx(folder: Path, kept: Store) -> Iterator[tuple[Write, Has]]:
    """A server keeps the last value of each field of a point (measurement, tags, time)."""
    del folder, kept
    server = Influx2()
    operator = {"username": "admin", "password": "twelve letters", "org": "o", "bucket": "aq", "token": "t"}
    server.take("POST", "/api/v2/setup", operator, None)
    sink = InfluxSink(InfluxBucket(server.url, "o", "aq"), "t", Patience(wait=lambda _: True))

    def has() -> Any:
        points: dict[Any, dict[str, Any]] = {}
        for line in server.lines.get("aq", []):
            point = read(line)
            points.setdefault((point.measurement, point.tags, point.time), {}).update(point.fields)
        return points

    yield sink.write, has
    sink.close()
    server.close()


#: How each sink is made and asked. A new one needs its own here.
SINKS = {Store: store, LatestCache: cache, InfluxSink: influx}


FIRST = estimate("a", T0 + 60, 1, {"pm25": measured(12.0), "no2": measured(7.0)}, indices=(index(50),))
SECOND = estimate(
    "a", T0 + 60, 2, {"pm25": imputed(30.0, 20.0, 40.0), "no2": measured(8.0)}, indices=(index(90),)
)
OTHERS = [estimate("a", T0, 1), estimate("b", T0 + 60, 3)]


def after(folder: Path, kind: type, *batches: Sequence[Estimate]) -> Any:
    """What a sink has after some batches."""
    folder.mkdir()
    with Store(folder / "store.sqlite", aggregates=True) as kept, SINKS[kind](folder, kept) as (write, has):
        for batch in batches:
            write(kept.write(batch))
        return has()


def test_every_sink_is_tried_here() -> None:
    found = {
        kind
        for module in pkgutil.iter_modules(sinks.__path__, "sinks.")
        for kind in vars(importlib.import_module(module.name)).values()
        if isinstance(kind, type) and kind.__module__ == module.name and hasattr(kind, "write")
    }
    assert found == set(SINKS)


@pytest.mark.parametrize("kind", SINKS, ids=lambda kind: kind.__name__)
def test_the_same_estimate_again_changes_nothing(kind: type, tmp_path: Path) -> None:
    once = after(tmp_path / "once", kind, [*OTHERS, FIRST])
    assert once
    assert after(tmp_path / "again", kind, [*OTHERS, FIRST], [FIRST], [FIRST, *OTHERS]) == once


@pytest.mark.parametrize("kind", SINKS, ids=lambda kind: kind.__name__)
def test_a_higher_revision_replaces_a_lower_one_wholly(kind: type, tmp_path: Path) -> None:
    alone = after(tmp_path / "alone", kind, [*OTHERS, SECOND])
    assert after(tmp_path / "later", kind, [*OTHERS, FIRST], [SECOND]) == alone
    assert after(tmp_path / "together", kind, [*OTHERS, FIRST, SECOND]) == alone
    assert after(tmp_path / "without", kind, [*OTHERS, FIRST]) != alone


@pytest.mark.parametrize("kind", SINKS, ids=lambda kind: kind.__name__)
def test_a_lower_revision_changes_nothing(kind: type, tmp_path: Path) -> None:
    alone = after(tmp_path / "alone", kind, [*OTHERS, SECOND])
    assert after(tmp_path / "late", kind, [*OTHERS, SECOND], [FIRST]) == alone
    assert after(tmp_path / "turned", kind, [SECOND, FIRST, *OTHERS]) == alone
