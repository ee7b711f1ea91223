"""Shares the tests out among processes that run side by side: `pytest -p tests.portions --portions=FOLDER`.

Each process collects the tests, and takes a portion whenever it has done with one: the tests of a module,
those with a broker apart from the others. What is taken is a file in the folder, which all name, so that
each portion is run by one of them. Which portions a process knows may differ (`-m "not broker"`); what is in
one may not.
"""

from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import cast
from urllib.parse import quote

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Written with `=`: pytest looks for its settings before it knows the option, and near a path."""
    parser.addoption("--portions", type=Path, required=True, help="an empty folder that all processes name")


def _in_order(items: Iterable[pytest.Item]) -> list[tuple[str, list[pytest.Item]]]:
    """Portions by name. What waits for a broker comes first, then what is slow: none is left for the end."""
    portions: dict[str, list[pytest.Item]] = {}
    for item in items:
        broker = "broker " if item.get_closest_marker("broker") else ""
        portions.setdefault(broker + item.nodeid.partition("::")[0], []).append(item)
    slow = {name for name, items in portions.items() if any(map(_is_slow, items))}
    return sorted(portions.items(), key=lambda one: (not one[0].startswith("broker "), one[0] not in slow))


def _is_slow(item: pytest.Item) -> bool:
    return item.get_closest_marker("slow") is not None


def _taken(session: pytest.Session, folder: Path) -> Iterator[tuple[pytest.Item, pytest.Item]]:
    """Each test, with what follows it in its portion.

    Behind a portion only what is the session's own stays set up: the next is not taken before it is done.
    """
    for name, items in _in_order(session.items):
        try:
            (folder / quote(name, safe="")).touch(exist_ok=False)
        except FileExistsError:
            continue  # another process has it
        yield from pairwise([*items, cast(pytest.Item, session)])


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """pytest's own loop, over what is taken on the way."""
    if session.testsfailed or session.config.option.collectonly:
        return None  # pytest's loop says that a module cannot be read, and runs nothing
    for item, following in _taken(session, session.config.getoption("portions")):
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        if session.shouldfail:
            raise session.Failed(session.shouldfail)
        if session.shouldstop:
            raise session.Interrupted(session.shouldstop)
    return True
