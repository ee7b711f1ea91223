"""Wrong use is told before anything is started, in words of our own, with exit code 2."""

import socket
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.main import app
from datasets.errors import SourceError
from infra.errors import StackError

FROM, TO = "2026-08-21T10:00:00Z", "2026-08-21T12:00:00Z"


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SKYFUSE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("SKYFUSE_CONFIG", "")
    monkeypatch.delenv("SKYFUSE_KAFKA__BOOTSTRAP", raising=False)
    return tmp_path / "data"


@pytest.mark.parametrize("command", [["replay"], ["replay", "--format", "india-nepal"], ["backfill"]])
@pytest.mark.parametrize("feed", [[], ["--feed-only"]])
def test_what_is_not_there_starts_no_broker(command: list[str], feed: list[str], data: Path) -> None:
    if command[0] == "backfill" and feed:
        return
    result = CliRunner().invoke(app, [*command, "/nonexistent", *feed])
    assert isinstance(result.exception, SourceError)
    assert "/nonexistent is no folder" in str(result.exception)
    assert not data.exists()


def test_an_empty_folder_starts_none_either(data: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["replay", str(tmp_path)])
    assert isinstance(result.exception, SourceError)
    assert not data.exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["harbour"], "takes STATION [SENSOR] FROM TO"),
        (["harbour", TO, FROM], "the second time has to be later"),
        (["harbour", "yesterday", TO], "yesterday"),
        (["a b", FROM, TO], "station"),
        (["harbour", "main", FROM, TO, "more"], "got 5"),
    ],
)
@pytest.mark.parametrize(
    "command", [["invalidate", "--reason", "spider"], ["annotate", "--text", "barbecue"]]
)
def test_annotations_say_how_they_are_used(
    command: list[str], arguments: list[str], words: str, data: Path
) -> None:
    result = CliRunner(env={"COLUMNS": "250"}).invoke(app, [*command, *arguments])
    assert result.exit_code == 2
    told = " ".join(result.output.split())
    assert words in told
    assert "message:" not in told
    assert not data.exists()


def test_how_long_is_written_as_in_the_settings(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[object, ...]] = []
    monkeypatch.setattr("cli.up._run", lambda _, seconds, city, __: asked.append((seconds, city.every)))
    for spans in (["--for", "1h30m", "--every", "5m"], ["--for", "90", "--every", "0"], []):
        assert CliRunner().invoke(app, ["up", *spans]).exit_code == 0
    assert asked == [(5400.0, 300.0), (90.0, 0.0), (None, 60.0)]
    for wrong in (["--for", "soon"], ["--for", "0"], ["--every", "-3"]):
        assert CliRunner().invoke(app, ["up", *wrong]).exit_code == 2
    assert len(asked) == 3
    assert not data.exists()


def test_a_port_that_is_none_is_refused_before_anything_is_asked_of_a_broker(data: Path) -> None:
    result = CliRunner().invoke(app, ["worker", "sink", "--web-port", "99999"])
    assert result.exit_code == 2
    assert "--web-port" in result.output
    assert not data.exists()


def test_a_page_asked_for_at_a_port_that_is_taken_is_refused_before_a_broker_starts(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        monkeypatch.setenv("SKYFUSE_WEB__PORT", str(other.getsockname()[1]))
        result = CliRunner().invoke(app, ["up", "--for", "1m"])
    assert isinstance(result.exception, StackError)
    assert "SKYFUSE_WEB__PORT" in str(result.exception)
    assert not (data / "kafka").exists()
