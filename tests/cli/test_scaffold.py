"""`skyfuse adapters new`: what it writes passes the contract test as it is."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.errors import ScaffoldError
from cli.main import app
from cli.shared.scaffold import new_adapter
from sources.adapters import adapters

ROOT = Path(__file__).parents[2]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The parts of a checkout that adapters are tested with."""
    for room in ("sources", "schemas", "tests/sources"):
        shutil.copytree(ROOT / room, tmp_path / room, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("docs/ingest.md", "tests/__init__.py", "pyproject.toml"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        shutil.copyfile(ROOT / file, tmp_path / file)
    return tmp_path


def test_the_scaffold_passes_the_contract_at_once_and_is_short(checkout: Path) -> None:
    files = new_adapter(checkout, "made-up")
    assert all(file.is_file() for file in files)
    assert len(files[0].read_text().splitlines()) < 60
    assert '"main value: pm25 = 12.5 ug/m3"' in files[-1].read_text()
    tests = ["tests/sources/adapters/test_contract.py", "tests/sources/adapters/test_page.py"]
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests, "-k", "made-up or page"],
        cwd=checkout, env=os.environ | {"PYTHONPATH": str(checkout)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout
    assert " passed" in ran.stdout
    with pytest.raises(ScaffoldError, match="there is an adapter made-up"):
        new_adapter(checkout, "made-up")


@pytest.mark.parametrize("name", ["tasmota", "core", "Upper", "a--b", "../x", "", "the-things-stack"])
def test_a_name_that_is_taken_or_none_writes_nothing(tmp_path: Path, name: str) -> None:
    (tmp_path / "tests" / "sources" / "adapters" / "golden").mkdir(parents=True)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ScaffoldError, match="there is an adapter" if name in adapters() else "no"):
        new_adapter(tmp_path, name)
    assert sorted(tmp_path.rglob("*")) == before


def test_without_a_checkout_it_is_said(tmp_path: Path) -> None:
    with pytest.raises(ScaffoldError, match="no checkout"):
        new_adapter(tmp_path, "made-up")


def test_the_command_says_what_is_wrong() -> None:
    assert CliRunner().invoke(app, ["adapters", "new", "tasmota"]).exit_code != 0
