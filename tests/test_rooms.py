"""The house: every room is in every list, what is pure asks no clock. (`lint-imports` holds the arrows.)"""

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
ROOMS = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
LINTER = PROJECT["tool"]["importlinter"]
#: Beside the rooms: not installed, or no code that runs.
BESIDE = {"benchmarks", "docs", "examples", "requirements", "tests"}
PURE = next(contract["source_modules"] for contract in LINTER["contracts"] if "no clock" in contract["name"])


def modules(names: list[str]) -> Iterator[tuple[str, ast.Module]]:
    for name in names:
        path = ROOT / name.replace(".", "/")
        for file in sorted(path.rglob("*.py")) or [path.with_suffix(".py")]:
            yield str(file.relative_to(ROOT)), ast.parse(file.read_text())


def test_every_folder_with_code_is_a_room() -> None:
    code = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert code - BESIDE == set(ROOMS)


@pytest.mark.parametrize(
    ("listed", "beside"),
    [
        (LINTER["root_packages"], set()),
        (PROJECT["tool"]["coverage"]["run"]["source"], set()),
        (PROJECT["tool"]["mypy"]["packages"], {"benchmarks"}),
        (PROJECT["tool"]["ruff"]["lint"]["isort"]["known-first-party"], {"benchmarks", "tests"}),
        (
            [
                room
                for line in LINTER["contracts"][0]["layers"]
                for room in line.replace("|", ":").split(" : ")
            ],
            set(),
        ),
    ],
    ids=["import-linter", "coverage", "mypy", "isort", "layers"],
)
def test_every_room_is_in_every_list(listed: list[str], beside: set[str]) -> None:
    assert set(listed) == set(ROOMS) | beside


def test_tests_are_where_the_code_is() -> None:
    folders = {path.parent.name for path in (ROOT / "tests").glob("*/__init__.py")}
    assert folders - {"golden"} <= set(ROOMS)


def test_what_is_pure_asks_no_clock() -> None:
    asked = [
        f"{file}:{node.lineno}"
        for file, tree in modules(PURE)
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in ("now", "utcnow", "today")
        and ast.unparse(node.value) in ("datetime", "date", "datetime.datetime", "datetime.date")
    ]  # fmt: skip
    assert not asked


def test_no_class_name_exists_twice() -> None:
    places: dict[str, list[str]] = {}
    for file, tree in modules(ROOMS):
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name, []).append(f"{file}:{node.lineno}")
    assert {name: where for name, where in places.items() if len(where) > 1} == {}
