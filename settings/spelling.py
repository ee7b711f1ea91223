"""Names of settings: all of them, those that nobody knows, and the one that was probably meant."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Final, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

PREFIX: Final = "SKYFUSE_"
#: Environment variables that are read, and are no settings.
OTHERS: Final = frozenset({"SKYFUSE_CONFIG"})
#: Those of the Grafana and the InfluxDB beside it, and of tests; skyfuse does not read them.
_FOREIGN: Final = re.compile(r"^SKYFUSE_(GRAFANA|INFLUX_ADMIN|OUTAGE)_")
#: What Kubernetes tells every container of a service that is called skyfuse, or skyfuse-something.
_KUBERNETES: Final = re.compile(r"_SERVICE_(HOST|PORT(_.*)?)$|_PORT_\d+_(TCP|UDP|SCTP)(_.*)?$")
#: And, where it is named like a slip for a setting of a port, what stands in it.
_KUBERNETES_PORT: Final = re.compile(r"^(tcp|udp|sctp)://", re.IGNORECASE)
#: How alike two names are at least, of which one is taken for a slip of the other.
_ALIKE: Final = 0.75

Path = tuple[str, ...]


@dataclass(frozen=True)
class Unknown:
    """A name that is no setting, and the setting that was probably meant."""

    name: str
    likely: str | None

    def __str__(self) -> str:
        hint = f"did you mean {self.likely}?" if self.likely else "`skyfuse config` lists all of them"
        return f"{self.name} is no setting; {hint}"


def leaves(model: type[BaseModel], above: Path = ()) -> Iterator[tuple[Path, FieldInfo]]:
    """Every setting with its path: ("kafka", "bootstrap")."""
    for name, field in model.model_fields.items():
        section = section_of(field)
        if section is None:
            yield (*above, name), field
        else:
            yield from leaves(section, (*above, name))


def section_of(field: FieldInfo) -> type[BaseModel] | None:
    """The model of a field that is a section; None for a setting."""
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def variable(path: Path) -> str:
    """The environment variable of a setting: SKYFUSE_KAFKA__BOOTSTRAP."""
    return PREFIX + "__".join(path).upper()


def unknown_variables(model: type[BaseModel], environment: Mapping[str, str]) -> list[Unknown]:
    """Of these environment variables those that begin with SKYFUSE_ and mean nothing here."""
    settings = [variable(path) for path, _ in leaves(model)]
    # A whole section may be given as JSON: SKYFUSE_KAFKA.
    sections = {PREFIX + name.upper() for name in model.model_fields}
    known = sections | {*settings, *OTHERS}
    found = []
    for name in sorted(environment):
        upper = name.upper()
        if not upper.startswith(PREFIX) or upper in known:
            continue
        if _FOREIGN.match(upper) or _KUBERNETES.search(upper):
            continue
        if upper.endswith("_PORT") and _KUBERNETES_PORT.match(environment[name]):
            continue
        found.append(Unknown(name, _likely(upper.removeprefix(PREFIX), [*settings, *OTHERS])))
    return found


def no_json(model: type[BaseModel], environment: Mapping[str, str]) -> str | None:
    """What is wrong with the first variable that has to be JSON and is none; None where there is none such.

    Says nothing of what was given: it may be a secret.
    """
    wanted = {
        variable((name,)): '{"name": "value"}'
        for name, field in model.model_fields.items()
        if section_of(field)
    }
    for path, field in leaves(model):
        kinds = {get_origin(kind) or kind for kind in (field.annotation, *get_args(field.annotation))}
        if kinds & {tuple, list}:
            wanted[variable(path)] = '["one", "another"]'
        elif kinds & {dict, Mapping}:
            wanted[variable(path)] = '{"name": "value"}'
    for name in sorted(environment):
        example = wanted.get(name.upper())
        if example is not None and environment[name]:
            try:
                json.loads(environment[name])
            except ValueError:
                return f"{name} is to be written in JSON, as in {example}"
    return None


def unknown_keys(model: type[BaseModel], table: Mapping[str, Any]) -> list[Unknown]:
    """Keys of a settings file that mean nothing here."""
    known = [".".join(path) for path, _ in leaves(model)]

    def below(section: type[BaseModel], table: Mapping[str, Any], above: Path) -> Iterator[Unknown]:
        for key, value in table.items():
            path = (*above, key)
            field = section.model_fields.get(key)
            if field is not None:
                inner = section_of(field)
                if inner is not None and isinstance(value, Mapping):
                    yield from below(inner, value, path)
                continue
            name = ".".join(path)
            if isinstance(value, Mapping):  # a table: [kafak]
                tables = [name for name, field in section.model_fields.items() if section_of(field)]
                near = get_close_matches(key, tables, 1, _ALIKE)
                yield Unknown(f"[{name}]", f"[{near[0]}]" if near else None)
            else:
                yield Unknown(name, _likely(name, known))

    return list(below(model, table, ()))


def _likely(name: str, known: Sequence[str]) -> str | None:
    """The known name that is meant: alike as a whole, or the same but for its section."""
    plain = {_plain(one): one for one in known}
    wanted = _plain(name)
    near = get_close_matches(wanted, plain, 1, _ALIKE)
    if near:
        return plain[near[0]]
    last: dict[str, list[str]] = {}
    for one in known:
        last.setdefault(_plain(re.split(r"__|\.", one.removeprefix(PREFIX))[-1]), []).append(one)
    same = last.get(wanted, []) + last.get(_plain(re.split(r"__|\.", name)[-1]), [])
    return same[0] if len(set(same)) == 1 else None


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.removeprefix(PREFIX).lower())
