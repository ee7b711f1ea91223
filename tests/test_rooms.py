"""The house: every room is in every list, what is pure asks no clock. (`lint-imports` holds the arrows.)"""

import ast
import importlib
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.errors import SkyfuseError

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
ROOMS = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
LINTER = PROJECT["tool"]["importlinter"]
#: Beside the rooms: not installed, or no code that runs.
BESIDE = {"benchmarks", "docs", "examples", "requirements", "tests"}


def within(contract: str) -> list[str]:
    """The modules that a contract holds, named in part."""
    held: list[str] = next(one["source_modules"] for one in LINTER["contracts"] if contract in one["name"])
    return held


PURE = within("no clock")


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
        (PROJECT["tool"]["mypy"]["packages"], {"benchmarks", "tests"}),
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


def name_of(file: str) -> str:
    return file.removesuffix(".py").replace("/", ".").removesuffix(".__init__")


def test_what_calls_itself_pure_is_held_to_it() -> None:
    loose = [
        name_of(file)
        for file, tree in modules(ROOMS)
        if re.search(r"(^|[.:]\s+)Pure\b(?! NumPy)", ast.get_docstring(tree) or "")
        and not any(f"{name_of(file)}.".startswith(f"{held}.") for held in PURE)
    ]
    assert loose == []


def test_every_stage_and_what_it_works_with_is_held_to_reach_no_faust() -> None:
    """But for what runs a worker: itself, Faust's driver, its credentials, its pages."""
    runs = {"agents.builders", "agents.worker", "streams.driver", "streams.credentials", "streams.web"}
    there = {name_of(file) for file, _ in modules(["agents", "streams"])} - {"agents", "streams"}
    assert there - runs == set(within("reach no Faust"))


def test_what_is_pure_asks_no_clock() -> None:
    asked = [
        f"{file}:{node.lineno}"
        for file, tree in modules(PURE)
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in ("now", "utcnow", "today")
        and ast.unparse(node.value) in ("datetime", "date", "datetime.datetime", "datetime.date")
    ]  # fmt: skip
    assert not asked


def types_of(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Names and lines of a module's types: its classes, and names that stand for a type."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            yield node.name, node.lineno
    for node in tree.body:
        match node:
            # An alias, a NewType, a NamedTuple by call: constants are written large, all else small.
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                if re.fullmatch(r"_?[A-Z]\w*[a-z]\w*", name):
                    yield name, node.lineno
            case _ if type(node).__name__ == "TypeAlias":  # `type X = ...`, of Python 3.12
                yield ast.unparse(node).split()[1], node.lineno


def test_what_a_type_is() -> None:
    module = """
class Plain: ...
class Two(NamedTuple): ...
Alias = int | str
Said: TypeAlias = int
Id = NewType("Id", int)
_Own = Annotated[int, 5]
LIMIT = 5
_LIMIT: Final = 5
T = TypeVar("T")
small = int
"""
    names = [name for name, _ in types_of(ast.parse(module))]
    assert names == ["Plain", "Two", "Alias", "Said", "Id", "_Own"]


def test_no_name_of_a_type_exists_twice() -> None:
    """Nor with an underscore: `_Window` beside `Window` would be two types in a reader's head."""
    places: dict[str, list[str]] = {}
    for file, tree in modules(ROOMS):
        for name, line in types_of(tree):
            places.setdefault(name.lstrip("_"), []).append(f"{file}:{line}")
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


def test_every_type_that_the_glossary_names_exists() -> None:
    named = set(re.findall(r"`([A-Z][a-z]\w*)[`.]", (ROOT / "docs" / "glossary.md").read_text()))
    assert named - {name for _, tree in modules(ROOMS) for name, _ in types_of(tree)} == set()


def test_every_error_has_one_root_and_is_drawn() -> None:
    for room in ROOMS:
        if (ROOT / room / "errors.py").is_file():
            importlib.import_module(f"{room}.errors")
    drawn = (ROOT / "docs" / "architecture.md").read_text().split("## Errors")[1].split("```")[1]

    def below(kind: type[SkyfuseError]) -> Iterator[type[SkyfuseError]]:
        for one in kind.__subclasses__():
            yield one
            yield from below(one)

    assert [
        one.__name__ for one in below(SkyfuseError) if one.__name__ not in re.findall(r"\w+", drawn)
    ] == []


def test_errors_stand_in_modules_of_that_name() -> None:
    elsewhere = [
        f"{file}: {node.name}"
        for file, tree in modules(ROOMS)
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and not file.endswith("/errors.py")
        and any(ast.unparse(base).endswith(("Error", "Exception")) for base in node.bases)
    ]  # fmt: skip
    # The one is caught by pydantic, which wants a ValueError; the other runs before anything is installed.
    assert elsewhere == ["infra/environment.py: SetupError", "schemas/secret.py: SecretError"]


def test_a_long_module_says_why() -> None:
    silent = [
        name
        for name, tree in modules(ROOMS)
        if len((ROOT / name).read_text().splitlines()) > 450
        and "Long because" not in " ".join((ast.get_docstring(tree) or "").split())
    ]
    assert silent == []
