"""Settings as they are in force, and who says so: for `skyfuse config`, and for what is said of a wrong one.

    python -m settings.in_force > docs/settings.md

writes the page of all settings with their defaults.
"""

import json
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Literal, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from settings.sections import Settings, settings_file
from settings.spelling import Path, leaves, section_of, variable
from settings.values import FOREVER

_DEFAULT: Final = "default"
_CREDENTIALS: Final = re.compile(r"(?<=://).*@")


@dataclass(frozen=True)
class InForce:
    """A setting: its dotted name, its value as one writes it (a secret: that it is set), and who says so."""

    name: str
    value: str
    origin: str


def in_force(settings: Settings) -> list[InForce]:
    """Every setting, in the order of the page."""
    found = []
    for path, _ in leaves(Settings):
        value: Any = settings
        for name in path:
            value = getattr(value, name)
        found.append(InForce(".".join(path), _written(value), origin(path)))
    return found


def origin(path: Path) -> str:
    """Who says what a setting is: an environment variable, the file, or its default."""
    variables = {name.upper(): name for name in os.environ}
    whole = variable(path[:1])  # a section as JSON; single variables win over it
    for name in (variable(path), whole):
        if name in variables and (
            name != whole or len(path) == 1 or _gives(os.environ[variables[name]], path)
        ):
            return variables[name]
    file = settings_file()
    if file is None:
        return _DEFAULT
    table: Any = tomllib.loads(file.read_text())
    for name in path:
        if not isinstance(table, Mapping) or name not in table:
            return _DEFAULT
        table = table[name]
    return str(file)


def origins(place: Path) -> str:
    """Who says what a setting is, or what of a section is not left at its defaults."""
    within = [path for path, _ in leaves(Settings) if path[: len(place)] == place]
    said = dict.fromkeys(origin(path) for path in within or [place])
    said.pop(_DEFAULT, None)
    return " and ".join(said) or _DEFAULT


def _gives(text: str, path: Path) -> bool:
    """Whether a section given as JSON holds this setting."""
    return re.search(rf'"{path[-1]}"\s*:', text) is not None


def _written(value: object) -> str:
    """A value as a person writes it. A secret, and who logs in by an address, is not shown."""
    if value is None:
        return "-"
    if isinstance(value, SecretStr):
        return "(set, not shown)"
    if isinstance(value, timedelta):
        if value >= FOREVER:
            return "forever"
        days, rest = divmod(value, timedelta(days=1))
        return f"{days}d" if days and not rest else f"{value.total_seconds():g}s"
    if isinstance(value, bool):
        return str(value).lower()  # as TOML and the environment have it
    if isinstance(value, tuple | Mapping):
        return json.dumps(list(value) if isinstance(value, tuple) else dict(value), default=str)
    return _CREDENTIALS.sub("(not shown)@", str(value)) or '""'


def page() -> str:
    """docs/settings.md."""
    parts = [
        "# Settings",
        "<!-- written by python -m settings.in_force > docs/settings.md -->",
        "In `skyfuse.toml` in the folder you are in, or the file that `SKYFUSE_CONFIG` names (it has to be"
        " there), or as environment variables, which win. A section of the file is a table, `[kafka]`; in the"
        " environment two underscores stand for its dot. `skyfuse config` shows what is in force and who said"
        " so. A name that is no setting is refused, with the one that was probably meant; only an environment"
        " variable that resembles none is left alone, and mentioned.",
        'Durations are written "60s", "5m", "1h30m", "2d", in plain seconds, `01:00:00` or `PT1H`.',
        _table("Everywhere", "", Settings),
    ]
    parts += _sections(Settings)
    return "\n\n".join(parts) + "\n"


def _sections(model: type[BaseModel], above: Path = ()) -> list[str]:
    """The tables of the sections of a model, each with those inside it after it."""
    parts = []
    for name, field in model.model_fields.items():
        section = section_of(field)
        if section is not None:
            path = (*above, name)
            about = (section.__doc__ or "").strip().replace("\n    ", " ")
            parts += [_table(f"[{'.'.join(path)}]", about, section, path), *_sections(section, path)]
    return parts


def _table(title: str, about: str, model: type[BaseModel], above: Path = ()) -> str:
    rows = ["| Setting | Environment | Default | What |", "|---|---|---|---|"]
    for name, field in model.model_fields.items():
        if section_of(field) is None:
            what = "; ".join(part for part in (field.description or "", _choices(field)) if part)
            default = _written(field.default)
            shown = "" if default == "-" else f"`{default}`"
            rows.append(f"| `{name}` | `{variable((*above, name))}` | {shown} | {what} |")
    heading = f"## {title}" + (f"\n\n{about}" if about else "")
    return heading + "\n\n" + "\n".join(rows)


def _choices(field: FieldInfo) -> str:
    """The words that a setting may be, where it is one of a few."""
    if get_origin(field.annotation) is not Literal:
        return ""
    return "one of " + ", ".join(f"`{word}`" for word in get_args(field.annotation))


if __name__ == "__main__":
    print(page(), end="")
