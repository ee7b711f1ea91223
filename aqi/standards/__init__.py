"""Air-quality index standards, read from the data files beside this module.

Adding a country is a data file (and its golden vectors in the tests): no code. An *alias* file lists editions
of one index with the local date from which each is in force, so that old data are read by the old table.
"""

import tomllib
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from importlib import resources
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from aqi.errors import StandardError
from aqi.standards.definition import AVERAGING_MS, Category, Measure, Requirement, Standard
from aqi.standards.file import build
from schemas.base import first_error

__all__ = [
    "AVERAGING_MS",
    "Category",
    "Measure",
    "Requirement",
    "Standard",
    "available",
    "load",
    "parse",
]


class _Edition(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    standard: str
    from_: str | None = Field(default=None, alias="from", pattern=r"^\d{4}-\d{2}-\d{2}$")


class _Alias(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    alias: str
    name: str
    utc_offset_hours: float
    edition: tuple[_Edition, ...] = Field(min_length=1)

    def at(self, at_ms: int) -> str:
        """Id of the edition in force at `at_ms`, by the local calendar of the index."""
        local = datetime.fromtimestamp(at_ms / 1000, UTC) + timedelta(hours=self.utc_offset_hours)
        day = local.date().isoformat()
        return [
            edition.standard for edition in self.edition if edition.from_ is None or edition.from_ <= day
        ][-1]


def available() -> tuple[str, ...]:
    """Ids that `load` knows, aliases included, in alphabetical order."""
    return tuple(sorted(_files()))


def load(id: str, at_ms: int | None = None) -> Standard:
    """The standard `id`; an alias (`cn`, `us-epa`) gives the edition in force at `at_ms` (event time, UTC).

    StandardError for an unknown id, and for an alias without a time: the newest edition is no safe guess.
    """
    content = _content(id)
    if "alias" not in content:
        return _standard(id)
    alias = _alias(id)
    if at_ms is None:
        editions = ", ".join(edition.standard for edition in alias.edition)
        raise StandardError(
            f"{id} stands for several editions: give the time of the data, or one of {editions}"
        )
    return _standard(alias.at(at_ms))


def parse(text: str, where: str) -> Standard:
    """The standard that the TOML `text` defines, for files outside the package; errors name it `where`."""
    try:
        data: dict[str, Any] = tomllib.loads(text, parse_float=Decimal)
    except tomllib.TOMLDecodeError as refused:
        raise StandardError(f"{where}: not TOML: {refused}") from refused
    return build(data, where)


@cache
def _files() -> dict[str, str]:
    folder = resources.files(__name__)
    return {
        entry.name.removesuffix(".toml"): entry.read_text(encoding="utf-8")
        for entry in folder.iterdir()
        if entry.name.endswith(".toml")
    }


@cache
def _content(id: str) -> dict[str, Any]:
    try:
        text = _files()[id]
    except KeyError:
        raise StandardError(f"no standard {id!r}: there are {', '.join(available())}") from None
    return tomllib.loads(text, parse_float=Decimal)


@cache
def _standard(id: str) -> Standard:
    standard = build(_content(id), f"aqi/standards/{id}.toml")
    if standard.id != id:
        raise StandardError(
            f"aqi/standards/{id}.toml: calls itself {standard.id!r}: file name and id must agree"
        )
    return standard


@cache
def _alias(id: str) -> _Alias:
    where = f"aqi/standards/{id}.toml"
    try:
        alias = _Alias.model_validate(_content(id))
    except ValidationError as refused:
        raise StandardError(f"{where}: {first_error(refused).message}") from refused
    dates = [edition.from_ or "" for edition in alias.edition]
    if dates[0] or dates != sorted(set(dates)):
        raise StandardError(f"{where}: the first edition has no `from`, each later one a later date")
    return alias
