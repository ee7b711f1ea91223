"""What else outlives an upgrade: stores, model bundles, records on the other topics."""

import json
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from model.bundle.bundle import DEFAULT_BUNDLE, Manifest, _parse
from schemas.alert import Alert
from schemas.estimate import Estimate
from schemas.features import Features
from schemas.station import CameraBands, Station
from sinks.store import Store
from sinks.store_schema import SCHEMA_VERSION

HERE = Path(__file__).parent
STORES = sorted(HERE.glob("store-*.sql"))


def made(path: Path, dump: Path) -> Path:
    """The store that a version left behind."""
    db = sqlite3.connect(path)
    db.execute("PRAGMA journal_mode = WAL")
    db.executescript(dump.read_text())
    db.close()
    return path


def shape(path: Path) -> list[tuple[str, str]]:
    """Names and definitions of its tables and views, without comments and line breaks."""
    db = sqlite3.connect(path)
    rows = db.execute(
        "SELECT name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%' ORDER BY name"
    ).fetchall()
    db.close()
    plain = [(name, " ".join(line.partition("--")[0] for line in sql.splitlines())) for name, sql in rows]
    return [(name, " ".join(sql.split())) for name, sql in plain]


def test_every_version_of_the_store_has_its_golden_file() -> None:
    assert {f"store-{version}" for version in range(1, SCHEMA_VERSION + 1)} == {one.stem for one in STORES}


@pytest.mark.parametrize("dump", STORES, ids=lambda dump: dump.stem)
def test_a_store_of_any_version_keeps_its_series(dump: Path, tmp_path: Path) -> None:
    path = made(tmp_path / "s.sqlite", dump)
    with Store(path, read_only=True) as reader:  # a reader before any worker
        before = reader.read()
    assert [one.pollutants["pm25"].value for one in before if one.station == "a"] == [50.0, 51.0, 52.0]
    assert len(before) == 4
    with Store(path, aggregates=True) as store:
        assert store.read() == before
        assert store.stations()["a"].timezone == "Europe/Rome"
        assert {(period.station, period.kind) for period in store.due(2**62)} >= {
            ("a", "hourly"),
            ("b", "daily"),
        }
        higher = before[0].model_copy(update={"revision": 9, "indices": ()})
        store.write([higher])
        assert store.withdrawn([higher]) == [(higher, ["us-epa-2024"])]
        assert store.read()[0].revision == 9
    Store(tmp_path / "fresh.sqlite").close()
    assert shape(path) == shape(tmp_path / "fresh.sqlite"), (
        "a table or view has changed: raise SCHEMA_VERSION, and say in _MIGRATIONS what makes it"
    )
    db = sqlite3.connect(path)
    assert db.execute("SELECT count(*) FROM aq WHERE kind <> 'missing'").fetchone() == (8,)
    db.close()


def test_hours_and_days_of_windows_that_have_left_are_kept(tmp_path: Path) -> None:
    with Store(made(tmp_path / "s.sqlite", HERE / "store-4.sql")) as store:
        found = [(one.period.kind, one.tally.windows, one.missed) for one in store.left("b")]
        assert found == [("daily", 3, 0), ("hourly", 3, 1)]
        (_, hour) = store.left("b")
        assert hour.tally.pollutants["pm25"].mean == 12.5
        assert (hour.tally.pollutants["o3"].imputed, hour.tally.indices["us-epa-2024"].last) == (3, 43)


def test_workers_that_start_together_bring_an_old_store_up_to_date_once(tmp_path: Path) -> None:
    path = made(tmp_path / "s.sqlite", STORES[0])
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: len(_read(path)), range(16)))
    assert found == [4] * 16


def _read(path: Path) -> list[Estimate]:
    with Store(path) as store:
        return store.read()


def test_a_bundle_of_schema_version_2_is_read() -> None:
    raw = (HERE / "bundle-2.json").read_bytes()
    manifest = _parse(raw, DEFAULT_BUNDLE)
    assert isinstance(manifest, Manifest)
    assert manifest.training.sites


SCHEMAS: dict[str, type[BaseModel]] = {
    "aq.estimates.v1": Estimate,
    "aq.features.v1": Features,
    "aq.stations.v1": Station,
    "aq.camera-bands.v1": CameraBands,
    "aq.alerts.v1": Alert,
}
RECORDS = [json.loads(line) for line in (HERE / "records-2026-11.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record["topic"])
def test_records_of_the_other_topics_are_read(record: dict[str, Any]) -> None:
    """Nothing of them is lost, whatever fields there are by now."""
    read = SCHEMAS[record["topic"]].model_validate_json(json.dumps(record["value"]))
    assert within(record["value"], json.loads(read.model_dump_json()))


def test_every_topic_has_one() -> None:
    assert {record["topic"] for record in RECORDS} == set(SCHEMAS)


def within(old: Any, new: Any) -> bool:
    """Whether everything in `old` is in `new`, which may say more."""
    if isinstance(old, dict):
        return isinstance(new, dict) and all(key in new and within(old[key], new[key]) for key in old)
    if isinstance(old, list):
        return isinstance(new, list) and len(old) == len(new) and all(map(within, old, new))
    return bool(old == new)
