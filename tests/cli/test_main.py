"""The command line calls itself by its name, and wrong use is a sentence and exit code 2."""

import json
import subprocess
import sys
from functools import cache

import pytest
from typer.testing import CliRunner

from cli import bench
from cli import main as cli
from cli.shared.influx_setup import ADMIN_PASSWORD


def run(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cli.main", *arguments],
        env={"PATH": "/usr/bin:/bin", "SKYFUSE_CONFIG": "", "COLUMNS": "200", **env},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


_ALL_HELP = """
import io, json, sys
from contextlib import redirect_stdout
import typer
from cli.main import app

def told(path):
    with redirect_stdout(io.StringIO()) as out:
        app([*path, "--help"], prog_name="skyfuse", standalone_mode=False)
    return out.getvalue()

def below(command, path):
    yield " ".join(path), told(path)
    for name, one in getattr(command, "commands", {}).items():
        yield from below(one, (*path, name))

json.dump(dict(below(typer.main.get_command(app), ())), sys.stdout)
"""


@cache
def helps(columns: int) -> dict[str, str]:
    """What each command says of itself on a screen of so many columns."""
    done = subprocess.run(
        [sys.executable, "-c", _ALL_HELP],
        env={"PATH": "/usr/bin:/bin", "SKYFUSE_CONFIG": "", "COLUMNS": str(columns)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found: dict[str, str] = json.loads(done.stdout)
    assert len(found) > 50
    return found


def test_help_says_skyfuse() -> None:
    for command, told in helps(80).items():
        assert f"Usage: {' '.join(('skyfuse', *command.split()))} " in told
    assert "Usage: skyfuse " in run("--help").stdout
    assert "cli.main" not in run("--help").stdout


@pytest.mark.parametrize("columns", [50, 80])
def test_help_cuts_nothing_on_a_narrow_terminal(columns: int) -> None:
    for command, told in helps(columns).items():
        assert "…" not in told, command
        wide = [line for line in told.splitlines() if len(line) > columns]
        assert all("|" in line for line in wide), command  # a list of choices is not broken
    assert "--predictions" in helps(columns)["evaluate"]
    assert "--set-header" in helps(columns)["dlq redrive"]
    assert ADMIN_PASSWORD in helps(columns)["influx init"]
    assert columns < 80 or "PARAMETER[_AVERAGING]=VALUE[UNIT]" in helps(columns)["aqi"]


def test_a_full_disk_is_a_sentence() -> None:
    with open("/dev/full", "wb") as full:
        told = subprocess.run(
            [sys.executable, "-m", "cli.main", "config"],
            env={"PATH": "/usr/bin:/bin", "SKYFUSE_CONFIG": ""},
            stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert told.returncode == 1
    assert told.stderr == (
        "skyfuse: the disk is full: [Errno 28] No space left on device; make room and run this again\n"
    )


def test_a_duration_that_is_none_says_how_one_is_written() -> None:
    wrong = run("topics", SKYFUSE_WINDOW__SIZE="soon")
    assert wrong.returncode == 2
    assert 'window.size: a duration is written "60s", "5m", "1h"' in wrong.stderr


def test_no_zone_of_that_name() -> None:
    wrong = run("replay", "nowhere", "--timezone", "Mars/Base")
    assert wrong.returncode == 2
    assert "no IANA time zone: write one such as Europe/Rome" in wrong.stderr


def test_benchmarks_are_of_a_checkout(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.setattr(bench, "__file__", f"{tmp_path}/site-packages/cli/bench.py")
    for arguments in (["bench"], ["bench", "join"]):
        result = CliRunner().invoke(cli.app, arguments)
        assert result.exit_code == 2
        assert "in a checkout" in " ".join(result.output.replace("│", " ").split())
