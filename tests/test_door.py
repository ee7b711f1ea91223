"""What a stranger meets first: examples run, the version is the project's, links lead somewhere."""

import doctest
import importlib
import re
import subprocess
import sys
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import typer.core
import typer.main

from cli.main import app
from cli.shared.scaffold import _MODULE
from sources.adapters.core.source_format import Context
from sources.adapters.core.translation import translate
from streams.version import version

ROOT = Path(__file__).parents[1]
#: Whose examples are run. Each has some: an empty list of examples would pass.
WITH_EXAMPLES = (
    "alerting.machine", "aqi.correction", "aqi.history", "aqi.index", "aqi.quality", "aqi.reach", "aqi.units",
    "aqi.zero", "camera.virtual_sensor", "fusion.bounds", "fusion.sensors.choice", "schemas.reading",
    "streams.cadence", "streams.join",
)  # fmt: skip
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_in_docstrings(name):
    failed, tried = doctest.testmod(importlib.import_module(name))
    assert tried, f"{name} has no example any more"
    assert not failed


def test_the_version_stands_in_pyproject_alone():
    stated = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert version() == stated
    command = [sys.executable, "-m", "cli.main", "--version"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert shown.stdout == f"skyfuse {stated}\n"
    newest = re.search(r"^## (\d+\.\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert newest, "CHANGELOG.md names no version"
    assert newest[1] == stated


def test_the_readme_names_every_command():
    table = re.search(r"^## More commands\n(.*?)^## ", (ROOT / "README.md").read_text(), re.M | re.S)
    assert table
    named = set()
    for shown in re.findall(r"`([^`]*)`", table[1]):
        words = shown.removeprefix("./skyfuse ").split()
        named.add(words[0])
        if len(words) > 1:
            named |= {f"{words[0]} {one}" for one in words[1].split(r"\|")}
    group = typer.main.get_command(app)
    assert isinstance(group, typer.core.TyperGroup)
    commands = group.commands
    wanted = set(commands) - {"up"}  # it has a chapter of its own
    for name, group in commands.items():
        wanted |= {f"{name} {one}" for one in getattr(group, "commands", ())}
    assert wanted <= named, sorted(wanted - named)


def anchors(page):
    """Anchors of a page's headings, as GitHub and the site make them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    text = re.sub(r"^(```|    ).*?$|`[^`]*`", "", page.read_text(), flags=re.M)
    for link in re.findall(r"\]\((?!https?:|mailto:)([^)\s]+)\)", text):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name}: {link}"
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target), f"{page.name}: {link}"


def test_every_page_is_in_the_index():
    index = (ROOT / "docs" / "README.md").read_text()
    missing = [page.name for page in (ROOT / "docs").glob("*.md") if f"({page.name})" not in index]
    assert missing == ["README.md"]


def test_the_adapter_of_the_tutorial_does_what_is_shown():
    text = (ROOT / "docs" / "tutorial.md").read_text().partition("## 6.")[2]
    [payload] = re.findall(r"```json\n(.+?)```", text, re.S)
    [code] = re.findall(r"```python\n(.+?)```", text, re.S)
    begun = _MODULE.partition("def _read")[0]
    made: dict[str, Any] = {}
    exec(begun + code, made)
    told = translate(made["ADAPTER"], payload.encode(), Context(datetime.now(UTC)))
    [reading] = told.readings
    shown = [f"{one.parameter} = {one.value:g} {one.unit}" for one in reading.values]
    assert shown == re.findall(r"(\w+ = \S+ \S+)  \[main", text)
    assert [part.where for part in told.refused] == re.findall(r"refused: (\S+):", text)
