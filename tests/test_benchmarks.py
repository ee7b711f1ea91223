"""Every benchmark runs, in small, and ends in the one JSON line that its readers expect.

A new file in `benchmarks/` is found by itself; it says in `SMALL` with which arguments it takes seconds.
"""

import importlib
import json
import math
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

_ROOT = Path(__file__).parent.parent
_NAMES = sorted(file.stem for file in (_ROOT / "benchmarks").glob("*.py") if not file.stem.startswith("_"))
#: Whether this machine has what a benchmark may need, by the marker of tests that need the same.
_HAVE = {
    "realdata": (_ROOT / "../shared/data").is_dir(),
    "engine": all(map(shutil.which, ("victoria-metrics", "influxd"))),
    "train": find_spec("torch") is not None,
}


def _starts_a_broker(name: str) -> bool:
    return "fresh_broker()" in (_ROOT / "benchmarks" / f"{name}.py").read_text()


def _bench(*arguments: str) -> str:
    command = [sys.executable, "-m", "cli.main", "bench", *arguments]
    done = subprocess.run(command, cwd=_ROOT, text=True, capture_output=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("name", _NAMES)
def test_a_benchmark_says_how_it_is_run_in_small(name: str) -> None:
    module = importlib.import_module(f"benchmarks.{name}")
    assert callable(module.main)
    assert module.SMALL
    assert set(getattr(module, "NEEDS", ())) <= _HAVE.keys()


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.broker) if _starts_a_broker(name) else name for name in _NAMES],
)
def test_a_benchmark_runs_in_small(name: str) -> None:
    module = importlib.import_module(f"benchmarks.{name}")
    missing = [need for need in getattr(module, "NEEDS", ()) if not _HAVE[need]]
    if missing:
        pytest.skip(f"benchmark {name} needs what {', '.join(missing)} tests need")
    line = json.loads(_bench(name, *module.SMALL).splitlines()[-1])
    assert {"name", "value", "unit", "baseline", "ratio"} <= line.keys()
    assert line["name"].replace("-", "_") == name
    assert all(math.isfinite(line[number]) for number in ("value", "baseline", "ratio"))
