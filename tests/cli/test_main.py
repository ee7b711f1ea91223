"""The command line calls itself by its name, and wrong use is a sentence and exit code 2."""

import subprocess
import sys

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


@pytest.mark.parametrize("command", [(), ("replay",), ("dlq", "list")])
def test_help_says_skyfuse(command: tuple[str, ...]) -> None:
    told = run(*command, "--help").stdout
    assert f"Usage: {' '.join(('skyfuse', *command))} " in told
    assert "cli.main" not in told


@pytest.mark.parametrize("command", [("evaluate",), ("dlq", "redrive")])
def test_help_cuts_no_name_on_a_narrow_terminal(command: tuple[str, ...]) -> None:
    told = run(*command, "--help", COLUMNS="50").stdout
    assert "…" not in told
    assert {"evaluate": "--predictions", "dlq": "--set-header"}[command[0]] in told
    assert all(len(line) <= 50 for line in told.splitlines())


@pytest.mark.parametrize("command", [("aqi",), ("influx", "init")])
def test_help_in_panels_cuts_no_long_name(command: tuple[str, ...]) -> None:
    told = run(*command, "--help", COLUMNS="80").stdout
    assert "…" not in told
    assert all(len(line) <= 80 for line in told.splitlines())
    assert {"aqi": "PARAMETER[_AVERAGING]=VALUE[UNIT]", "influx": ADMIN_PASSWORD}[command[0]] in told


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
    assert 'window.size: Value error, a duration is written "60s", "5m", "1h"' in wrong.stderr


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
