"""The tests shared out among processes: each is run by one of them."""

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

_SETTINGS = """\
[pytest]
markers =
    broker: with a broker
    slow: slow
"""
_MODULE = """\
import time
from pathlib import Path
import pytest

HERE = Path(__file__)

def note(what):
    with (HERE.parent / "ran").open("a") as ran:
        ran.write(f"{HERE.stem} {what}\\n")

@pytest.fixture(scope="module")
def shared():
    note("begins")
    yield
    note("ends")

@pytest.mark.broker
def test_broker(shared):
    note("broker")

@pytest.mark.parametrize("number", range(3))
def test_other(shared, number):
    note(number)
"""
#: Neither of the two can end before the other has begun.
_MEETS = """

@pytest.mark.slow
def test_the_other_process_is_here():
    (HERE.parent / f"{HERE.stem}.here").touch()
    until = time.monotonic() + 600
    while len(list(HERE.parent.glob("*.here"))) < 2:
        assert time.monotonic() < until
        time.sleep(0.01)
"""
_FAILS = """

def test_fails():
    note("fails")
    assert False
"""


def test_each_test_runs_once_in_one_of_the_processes(tmp_path: Path) -> None:
    tests, portions = tmp_path / "made", tmp_path / "portions"
    tests.mkdir()
    portions.mkdir()
    (tests / "pytest.ini").write_text(_SETTINGS)
    for number in range(6):
        more = _MEETS * (number in (1, 4)) + _FAILS * (number == 5)
        (tests / f"test_{number}.py").write_text(_MODULE + more)
    command = [sys.executable, "-m", "pytest", "-p", "tests.portions", f"--portions={portions}"]
    processes = [
        subprocess.Popen([*command, *choice], cwd=tests, text=True, stdout=subprocess.PIPE)
        for choice in ([], ["-m", "not broker"])
    ]
    said = [process.communicate(timeout=900)[0] for process in processes]
    assert all("configfile: pytest.ini" in one for one in said)
    ran = Counter((tests / "ran").read_text().splitlines())
    wanted = {f"test_{number} {what}": 1 for number in range(6) for what in ("broker", 0, 1, 2)}
    wanted |= {f"test_{number} {what}": 2 for number in range(6) for what in ("begins", "ends")}
    assert ran == wanted | {"test_5 fails": 1}
    assert sorted(process.returncode for process in processes) == [0, 1], said
    # Those with a broker first, of the others those that are slow.
    order = re.findall(r"^test_(\d)\.py", said[0], re.M)
    assert order[:6] == list("012345")
    assert set(order[6:7]) <= {"1", "4"}
