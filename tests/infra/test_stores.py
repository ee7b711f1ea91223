"""Whose file is whose: a replay's estimates never become live ones, and are found where nothing else is."""

from pathlib import Path

import pytest

from cli.errors import QueryError
from cli.query import query
from infra.stores import make_room_for_live, new_replay_store, replay_shown, replay_stores, show_replay
from settings.sections import Settings
from sinks.store import Store
from tests.samples import estimate


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("SKYFUSE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("SKYFUSE_CONFIG", "")
    return Settings()


def replayed(settings: Settings, folder: str, station: str) -> Path:
    path = new_replay_store(settings, Path(folder))
    with Store(path) as store:
        store.write([estimate(station)])
    return path


def test_without_a_live_store_the_newest_replay_is_shown(settings: Settings) -> None:
    first = replayed(settings, "/data/may 2022", "old")
    assert first.name.startswith("may-2022-")
    assert show_replay(settings, first)
    second = replayed(settings, "/data/may 2022", "older")
    assert second != first
    assert show_replay(settings, second)
    assert replay_shown(settings) == second.resolve()
    with Store(settings.store_path, read_only=True) as store:
        assert [one.station for one in store.latest()] == ["older"]
    assert set(replay_stores(settings)) == {first, second}
    assert not list(settings.data_dir.glob("*.link"))


def test_the_first_live_worker_makes_a_store_of_its_own(settings: Settings) -> None:
    shown = replayed(settings, "x", "old")
    show_replay(settings, shown)
    assert make_room_for_live(settings) == shown.resolve()
    assert make_room_for_live(settings) is None
    with Store(settings.store_path) as store:
        assert store.latest() == []
    with Store(shown, read_only=True) as store:
        assert len(store.latest()) == 1


def test_a_live_store_stays_one(settings: Settings) -> None:
    settings.data_dir.mkdir()
    with Store(settings.store_path) as store:
        store.write([estimate("live")])
    assert not show_replay(settings, replayed(settings, "x", "old"))
    assert make_room_for_live(settings) is None
    with Store(settings.store_path, read_only=True) as store:
        assert [one.station for one in store.latest()] == ["live"]


def test_a_store_that_settings_name_is_never_touched(settings: Settings) -> None:
    shown = replayed(settings, "x", "old")
    show_replay(settings, shown)
    named = settings.model_copy(update={"store": settings.data_dir / "store.sqlite"})
    assert make_room_for_live(named) is None
    assert replay_shown(settings) == shown.resolve()


def test_query_says_that_it_shows_a_replay(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    shown = replayed(settings, "x", "old")
    show_replay(settings, shown)
    query("old")
    out, err = capsys.readouterr()
    assert f"these are the estimates of the replay {shown.resolve()}" in err
    assert "the newest window ended" in " ".join(out.split())
    other = replayed(settings, "y", "other")
    query("other", store_file=other)
    assert capsys.readouterr().err == ""
    with pytest.raises(QueryError, match=r"replays have stores of their own \(--store FILE\): .*y-"):
        query("other")
