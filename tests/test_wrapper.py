"""The wrapper `./skyfuse`: sets up once, then is instant, from anywhere, also twice at the same time."""

import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).parent.parent
_CLI = """\
import importlib.util, os, sys
import six
print(sys.argv[1:], os.getcwd(), "cli.main of", os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
"""


def _locked(package: str) -> str:
    """The package's lines in the real lock file, hashes included."""
    found = re.search(
        rf"^{package}==.*(?:\n    --hash.*)*", (_ROOT / "requirements" / "run.lock").read_text(), re.M
    )
    assert found
    return found.group() + "\n"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout small enough to set up in a test: the real wrapper and one locked package."""
    root = tmp_path / "a check-out\twith 'blanks'"
    (root / "infra").mkdir(parents=True)
    (root / "requirements").mkdir()
    shutil.copy(_ROOT / "skyfuse", root)
    shutil.copy(_ROOT / "infra" / "environment.py", root / "infra")
    shutil.copy(_ROOT / "requirements" / "uv.lock", root / "requirements")
    (root / "requirements" / "run.lock").write_text(_locked("six"))
    (root / "cli").mkdir()
    (root / "cli" / "__init__.py").write_text("")
    (root / "cli" / "main.py").write_text(_CLI)
    return root


def _environment(**extra: str) -> dict[str, str]:
    # The tests themselves may run in the second or third of the three processes.
    outside = {name: value for name, value in os.environ.items() if name != "COVERAGE_FILE"}
    return {**outside, "PYTHON": sys.executable, **extra}


_OFFLINE = {
    "PIP_NO_INDEX": "1",
    "UV_OFFLINE": "1",
    "http_proxy": "http://127.0.0.1:9",
    "https_proxy": "http://127.0.0.1:9",
}


@pytest.mark.slow
def test_sets_up_once_then_passes_everything_on_without_a_network(checkout: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    # A folder of that name where the user stands must not hide the checkout's modules.
    (elsewhere / "cli").mkdir(parents=True)
    (elsewhere / "cli" / "__init__.py").write_text("raise SystemExit('the wrong cli')")
    link = tmp_path / "link"
    link.symlink_to(checkout / "skyfuse")
    command: list[str | Path] = [link, "up", "--for", "5 s"]
    expected = f"['up', '--for', '5 s'] {elsewhere} cli.main of {checkout}\n"

    both = [
        subprocess.Popen(
            command,
            cwd=elsewhere,
            env=_environment(PYTHONDONTWRITEBYTECODE="1"),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=300) for process in both]
    assert [output for output, _ in outputs] == [expected, expected], outputs
    assert sum("ready after" in errors for _, errors in outputs) == 1, outputs
    said = [line for _, errors in outputs for line in errors.splitlines()]
    assert all(line.startswith("skyfuse: ") for line in said), "no wall of lines of the installer's own"
    assert sum("waiting for another skyfuse" in errors for _, errors in outputs) == 1, outputs

    compiled = list((checkout / ".venv").glob("lib/python*/site-packages/__pycache__/six.*.pyc"))
    assert compiled, "each process would compile all packages anew"
    again = subprocess.run(
        command, cwd=elsewhere, env=_environment(**_OFFLINE), text=True, capture_output=True
    )
    assert (again.stdout, again.stderr) == (expected, "")


@pytest.mark.slow
def test_mends_a_broken_environment_and_does_without_uv(checkout: Path) -> None:
    # No file has this hash, so uv cannot be had: pip does the work.
    (checkout / "requirements" / "uv.lock").write_text(f"uv==0.1.0 --hash=sha256:{'0' * 64}\n")
    first = subprocess.run([checkout / "skyfuse"], env=_environment(), text=True, capture_output=True)
    assert first.returncode == 0, first.stderr
    assert "ready after" in first.stderr

    python = checkout / ".venv" / "bin" / "python"
    python.unlink()
    python.symlink_to("/nowhere/python3.11")
    second = subprocess.run([checkout / "skyfuse"], env=_environment(), text=True, capture_output=True)
    assert second.returncode == 0, second.stderr
    assert "making an environment" in second.stderr


@pytest.mark.slow
def test_an_index_that_cannot_be_reached_is_said_and_nothing_counts_as_done(checkout: Path) -> None:
    environment = _environment(**_OFFLINE, PIP_RETRIES="0", PIP_FIND_LINKS="", HOME=str(checkout))
    failed = subprocess.run([checkout / "skyfuse"], env=environment, text=True, capture_output=True)
    assert failed.returncode == 1
    assert "cannot install requirements/run.lock" in failed.stderr
    assert not (checkout / ".venv" / "skyfuse").exists()


@pytest.mark.parametrize(
    ("arguments", "level"),
    [
        ("train folder", "train"), ("train --help", "run"),
        ("forecast train", "train"), ("forecast train folder", "train"), ("forecast train --help", "run"),
        ("forecast evaluate train", "run"), ("forecast", "run"), ("up train", "run"), ("", "run"),
    ],
)  # fmt: skip
def test_what_trains_gets_torch_and_nothing_else_does(checkout: Path, arguments: str, level: str) -> None:
    (checkout / "infra" / "environment.py").write_text("import sys; sys.exit(f'level {sys.argv[1]}')\n")
    asked: list[str | Path] = [checkout / "skyfuse", *arguments.split()]
    found = subprocess.run(asked, env=_environment(), text=True, capture_output=True)
    assert found.stderr == f"level {level}\n"


_TOOL = """\
#!/bin/sh
echo "$(basename "$0") $*"
case "$*" in
*"-m pytest"*)
    case "${COVERAGE_FILE##*/}" in
    .coverage.2) share=2; goes_on=3 ;;
    .coverage.3) share=3; goes_on=1 ;;
    *) share=1; goes_on=2 ;;
    esac
    # Each lets the next one go on: one after the other, they never end.
    [ $share = 1 ] && echo beside >"$0.$goes_on"
    read -r _ <"$0.$share"
    [ $share = 1 ] || echo beside >"$0.$goes_on"
    [ $share != "$FAILS" ]
    ;;
esac
"""


@pytest.mark.parametrize(("options", "more"), [((), ""), (("--fast",), " and not slow")])
@pytest.mark.parametrize("fails", ["none", "1", "2", "3"])
def test_tests_run_in_three_processes_at_once_and_each_counts(
    checkout: Path, fails: str, options: tuple[str, ...], more: str
) -> None:
    tools = checkout / ".venv" / "bin"
    (checkout / ".venv" / "skyfuse").mkdir(parents=True)
    tools.mkdir()
    (checkout / ".venv" / "skyfuse" / "where").write_text(str(checkout))
    for folder in (checkout / "requirements", checkout / ".venv" / "skyfuse"):
        (folder / "dev.lock").write_text("")
    for name in ("python", "ruff", "mypy", "lint-imports", "mkdocs"):
        (tools / name).write_text(_TOOL)
        (tools / name).chmod(0o755)
    for share in (1, 2, 3):
        os.mkfifo(tools / f"python.{share}")
    done = subprocess.run(
        [checkout / "skyfuse", "test", *options], env=_environment(FAILS=fails), text=True,
        capture_output=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == (fails != "none")
    lines = done.stdout.splitlines()
    assert lines[-1] == ("All checks passed." if fails == "none" else f"FAILED: tests ({fails} of 3)")
    told = [lines[1 + lines.index(f"== tests ({share} of 3)")] for share in (1, 2, 3)]
    call = re.compile(
        r"python -m coverage run -m pytest -p tests\.first_second -p tests\.portions --portions=(\S+)(.*)"
    )
    calls = [call.fullmatch(one) for one in told]
    assert len({one[1] for one in calls if one}) == 1
    chosen = " -m not slow" if more else ""
    assert [one and one[2] for one in calls] == [f" -m not broker{more}", chosen, chosen]
    combined = [line.rpartition(".")[2] for line in lines if line.startswith("python -m coverage combine")]
    assert combined == ["2", "3"]


def test_a_disk_without_room_is_said_with_how_much_is_needed(checkout: Path) -> None:
    environment = checkout / "infra" / "environment.py"
    text = environment.read_text()
    environment.write_text(text.replace('"run": 800', '"run": 10**9'))
    failed = subprocess.run([checkout / "skyfuse"], env=_environment(), text=True, capture_output=True)
    assert failed.returncode == 1
    assert re.fullmatch(
        r"skyfuse: what skyfuse needs takes about 1000000.0 GB in .*/\.venv, 1000000.0 GB of it"
        r" still to come; its disk has [\d.]+ [GM]B free: make room, or move the checkout to another disk\n",
        failed.stderr,
    )
    assert not (checkout / ".venv").exists()


def test_a_python_that_is_too_old_or_missing_is_named(checkout: Path, tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("sh", "dirname", "cut", "cmp", "cat"):
        program = shutil.which(name)
        assert program
        (tools / name).symlink_to(program)
    environment = {"PATH": str(tools)}
    missing = subprocess.run([checkout / "skyfuse"], env=environment, text=True, capture_output=True)
    assert missing.returncode == 1
    assert "there is no python3 on the PATH" in missing.stderr

    old = tools / "python3"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.9.2 && exit 0\nexit 1\n')
    old.chmod(old.stat().st_mode | stat.S_IXUSR)
    refused = subprocess.run([checkout / "skyfuse"], env=environment, text=True, capture_output=True)
    assert refused.returncode == 1
    assert "needs Python 3.11 or newer; python3 here is 3.9.2" in refused.stderr


@pytest.mark.parametrize("arguments", [["train", "--help"], ["train", "robust", "--help"]])
def test_help_of_train_installs_no_torch(checkout: Path, arguments: list[str]) -> None:
    (checkout / "infra" / "environment.py").write_text("import sys; print('installs', sys.argv[1])")
    told = subprocess.run(
        [checkout / "skyfuse", *arguments], env=_environment(), text=True, capture_output=True
    )
    assert told.stdout == "installs run\n"
    trains = subprocess.run(
        [checkout / "skyfuse", "train", "robust"], env=_environment(), text=True, capture_output=True
    )
    assert trains.stdout == "installs train\n"
