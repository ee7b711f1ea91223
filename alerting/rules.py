"""Alert rules: one TOML file, checked, with the line of every mistake (see default-rules.toml)."""

import fnmatch
import hashlib
import itertools
import math
import re
import tomllib
from collections.abc import Mapping
from functools import cached_property
from importlib import resources
from typing import Annotated, Any, Final, Literal, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from alerting.errors import RulesError
from aqi import standards
from aqi.errors import StandardError
from aqi.flags import TESTS
from camera.gate import REASONS
from schemas.alert import SEVERITIES, Severity
from schemas.base import STATION_PATTERN
from schemas.duration import parse_duration
from schemas.estimate import Status
from schemas.forecast import FORECAST_HOURS, FORECAST_LEVELS
from schemas.health import Trouble
from schemas.parameters import POLLUTANTS, Pollutant
from schemas.times import HOUR_MS, in_ms

What = Literal[
    "index", "nowcast", "concentration", "imputed_share", "flagged", "drift", "frames", "silence",
    "forecast", "forecast_index", "trouble",
]  # fmt: skip
RestsOn = Literal["measured", "lower_bound", "any"]
#: Of an index, rising.
STATUSES: Final[tuple[Status, ...]] = ("insufficient", "indicative", "valid")
#: Keys that rules did not always have: they are part of a rule's digest only where they are set, so that a
#: new version of skyfuse ends no alert of a rule that nobody changed.
_LATER: Final = ("min_status", "within", "probability", "trouble")


class RuleKind(NamedTuple):
    """What holds for all rules about one kind of number.

    `needs`: the key that such rules have, and no others; `highest`: what the number never exceeds; `unit`: a
    share is given in per cent; `of_air`: the others are about the network that watches it; `chances`: of a
    forecast, how probable it may have to be that the number is reached (empty: it is no forecast's);
    `of_fleet`: it goes by the fleet's health (`alerting.troubles`), and by no estimate.
    """

    needs: str | None = None
    highest: float = math.inf
    unit: Literal["", "%", "ug/m3"] = ""
    of_air: bool = False
    chances: tuple[float, ...] = ()
    of_fleet: bool = False


#: How a number comes out of an estimate, and what is said of it: `alerting.evidence`, `alerting.words`.
KINDS: Final[dict[What, RuleKind]] = {
    "index": RuleKind("standard", of_air=True),
    "nowcast": RuleKind("standard", of_air=True),
    "concentration": RuleKind("parameter", unit="ug/m3", of_air=True),
    "imputed_share": RuleKind(highest=1, unit="%"),
    "flagged": RuleKind("tests", highest=len(POLLUTANTS)),
    "drift": RuleKind(unit="%"),
    "frames": RuleKind("reasons", highest=1, unit="%"),
    "silence": RuleKind(),
    # A value that is reached with a probability of p is the quantile of level 1 - p.
    "forecast": RuleKind(
        "parameter", unit="ug/m3", of_air=True, chances=tuple(round(1 - q, 2) for q in FORECAST_LEVELS)
    ),
    "forecast_index": RuleKind("standard", of_air=True, chances=(0.95, 0.5, 0.05)),
    "trouble": RuleKind("trouble", highest=1, of_fleet=True),
}


def _duration(value: object) -> int:
    return in_ms(parse_duration(value))


Milliseconds = Annotated[int, BeforeValidator(_duration)]


class _TomlTable(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class SeverityStep(_TomlTable):
    """One severity. Reached at `enter` or more, left below `leave` (in the unit of the rule's number)."""

    severity: Severity
    enter: float
    leave: float | None = None

    @property
    def left_below(self) -> float:
        """`leave`, which defaults to `enter`: no hysteresis."""
        return self.enter if self.leave is None else self.leave


class Rule(_TomlTable):
    """One rule. Durations in ms of event time."""

    id: Annotated[str, Field(pattern=STATION_PATTERN)]
    what: What
    standard: str | None = None
    parameter: Pollutant | None = None
    tests: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    trouble: Trouble | None = None
    rests_on: RestsOn = "any"
    min_status: Status = "indicative"
    within: Milliseconds = 0
    probability: float = 0.5
    open_after: Milliseconds = 0
    clear_after: Milliseconds = 0
    max_gap: Milliseconds = 300_000
    stations: tuple[str, ...] = ("*",)
    steps: Annotated[tuple[SeverityStep, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _agrees(self) -> "Rule":
        needed = KINDS[self.what].needs
        for key in ("standard", "parameter", "tests", "reasons", "trouble"):
            given = bool(getattr(self, key))
            if key == needed and not given:
                raise ValueError(f'{key}: what = "{self.what}" needs it')
            if key != needed and given:
                raise ValueError(f'{key}: what = "{self.what}" has no use for it')
        if "min_status" in self.model_fields_set and self.what != "index":
            raise ValueError(f'min_status: what = "{self.what}" has no use for it')
        self._foretells()
        for key, known in (("tests", tuple(TESTS)), ("reasons", tuple(REASONS))):
            unknown = [name for name in getattr(self, key) if name not in known]
            if unknown:
                raise ValueError(f"{key}: {unknown[0]!r} is not one of {', '.join(known)}")
        if self.standard is not None:
            try:
                standards.load(self.standard, 0)
            except StandardError as error:
                raise ValueError(f"standard: {error}") from error
        top = KINDS[self.what].highest
        for position, step in enumerate(self.steps):
            if not 0 <= step.enter <= top:
                raise ValueError(
                    f"steps.{position}: enter = {step.enter:g} is never reached, or always:"
                    f" {self.what} lies between 0 and {top:g}"
                )
            if step.left_below > step.enter:
                raise ValueError(f"steps.{position}: leave = {step.leave:g} is above enter = {step.enter:g}")
        for position, (below, above) in enumerate(itertools.pairwise(self.steps), 1):
            if above.enter <= below.enter or above.left_below < below.left_below:
                raise ValueError(f"steps.{position}: `enter` has to rise, and `leave` must not fall")
            if SEVERITIES.index(above.severity) <= SEVERITIES.index(below.severity):
                raise ValueError(f"steps.{position}: severities have to rise from step to step")
        if self.what == "silence":
            if any(step.leave is not None for step in self.steps):
                raise ValueError("steps: silence ends with the data, it has no `leave`")
            if any(step.enter != int(step.enter) or step.enter < 1 for step in self.steps):
                raise ValueError("steps: silence counts whole windows, 1 or more")
            if self.open_after:
                raise ValueError("open_after: the number of windows in `enter` says it already")
        if self.what == "trouble":
            if len(self.steps) > 1 or self.steps[0].enter != 1 or self.steps[0].left_below != 1:
                raise ValueError("steps: a trouble is there or not: one step, with enter = 1")
            for key in ("max_gap", "rests_on"):
                if key in self.model_fields_set:
                    raise ValueError(f'{key}: what = "trouble" has no use for it')
        return self

    def _foretells(self) -> None:
        """ValueError where what is said of forecasts does not fit the rule's kind."""
        chances = KINDS[self.what].chances
        given = self.model_fields_set
        for key in ("rests_on",) if chances else ("within", "probability"):
            if key in given:
                raise ValueError(f'{key}: what = "{self.what}" has no use for it')
        if not chances:
            return
        if not self.within:
            raise ValueError(f'within: what = "{self.what}" needs it')
        if self.within % HOUR_MS or self.within > FORECAST_HOURS * HOUR_MS:
            raise ValueError(f"within: whole hours, {FORECAST_HOURS} at most")
        if self.probability not in chances:
            raise ValueError(f"probability: is one of {', '.join(f'{one:g}' for one in sorted(chances))}")

    def is_for(self, station: str) -> bool:
        """Whether the rule watches `station`."""
        return any(fnmatch.fnmatchcase(station, pattern) for pattern in self.stations)

    @property
    def foretells(self) -> bool:
        """Whether it looks at forecasts."""
        return bool(KINDS[self.what].chances)

    @cached_property
    def digest(self) -> str:
        """Changes when anything in the rule changes."""
        unset = {name for name in _LATER if getattr(self, name) == type(self).model_fields[name].default}
        return hashlib.sha256(self.model_dump_json(exclude=unset).encode()).hexdigest()[:16]


class AlertRules(_TomlTable):
    """All rules, and the links put into events."""

    links: Mapping[str, str] = {}
    rule: tuple[Rule, ...] = ()

    @model_validator(mode="after")
    def _distinct(self) -> "AlertRules":
        seen: set[str] = set()
        for position, rule in enumerate(self.rule):
            if rule.id in seen:
                raise ValueError(f"rule.{position}.id: {rule.id!r} is taken by a rule above")
            seen.add(rule.id)
        for name, template in self.links.items():
            try:
                template.format(station="", rule="", at="")
            except (KeyError, IndexError, ValueError) as error:
                raise ValueError(
                    f"links.{name}: only {{station}}, {{rule}} and {{at}} are filled in, not {error}"
                ) from error
        return self

    @cached_property
    def on_estimates(self) -> "AlertRules":
        """Those that look at what is."""
        return self.model_copy(update={"rule": tuple(one for one in self.rule if not one.foretells)})

    @cached_property
    def on_forecasts(self) -> "AlertRules":
        """Those that look at what is to come."""
        return self.model_copy(update={"rule": tuple(one for one in self.rule if one.foretells)})

    def of(self, station: str) -> tuple[Rule, ...]:
        """The rules that watch the estimates of `station`, and what is foretold of it."""
        return tuple(rule for rule in self.rule if rule.is_for(station) and not KINDS[rule.what].of_fleet)

    def of_fleet(self, station: str) -> tuple[Rule, ...]:
        """The rules that watch how `station` itself fares."""
        return tuple(rule for rule in self.rule if rule.is_for(station) and KINDS[rule.what].of_fleet)


def default() -> AlertRules:
    """The documented default set."""
    file = resources.files(__package__) / "default-rules.toml"
    return parse(file.read_text(encoding="utf-8"), "default-rules.toml")


def parse(text: str, where: str) -> AlertRules:
    """The rules in a TOML text; `where` names it in errors. Raises RulesError: all mistakes, with lines."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RulesError(f"{where}: not TOML: {error}") from error
    if "rule" not in data and not data.keys() - {"links"}:
        # A save that was cut short looks like this. Taken at its word it would end every alert.
        raise RulesError(
            f"{where}:1: file: there is no [[rule]] in it; to watch nothing at all, write: rule = []"
        )
    try:
        return AlertRules.model_validate(data)
    except ValidationError as error:
        mistakes = "\n".join(
            f"{where}:{line}: {words}"
            for line, words in sorted(
                _explain(text, list(detail["loc"]), detail["msg"], detail["type"])
                for detail in error.errors(include_url=False, include_context=False)
            )
        )
        raise RulesError(mistakes) from error


def _explain(text: str, loc: list[str | int], message: str, kind: str) -> tuple[int, str]:
    """The line of a mistake, and what is wrong."""
    match kind:
        case "extra_forbidden":
            table = SeverityStep if "steps" in loc else Rule if loc[0] == "rule" else AlertRules
            message = f"no such key here; there are {', '.join(table.model_fields)}"
        case "missing":
            message = "is missing"
        case "tuple_type" if loc == ["rule"]:
            message = "every rule begins with [[rule]], in two pairs of brackets"
        case "tuple_type":
            message = 'a list is written ["one", "two"]'
    message = message.removeprefix("Value error, ").replace("Input should be", "should be")
    path, colon, rest = message.partition(": ")
    # Checks over several keys name theirs in the message: "steps: ...", "rule.3.id: ...".
    if colon and re.fullmatch(r"[a-z_]+(\.[a-z0-9_-]+)*", path):
        loc = loc + [int(part) if part.isdecimal() else part for part in path.split(".")]
        message = rest
    line = _line_of(text, loc)
    keys = [str(part) for part in loc if isinstance(part, str) and (part != "rule" or len(loc) == 1)]
    return line, f"{'.'.join(keys) or 'file'}: {message}"


def _line_of(text: str, loc: list[Any]) -> int:
    """The line of the value at `loc` (keys and positions), or of its table where it is missing."""
    lines = text.splitlines()
    start, end = 0, len(lines)
    rest = list(loc)
    if len(rest) > 1 and rest[0] == "rule" and isinstance(rest[1], int):
        heads = [number for number, line in enumerate(lines) if re.match(r"\s*\[\[\s*rule\s*\]\]", line)]
        start = heads[rest[1]]
        end = heads[rest[1] + 1] if rest[1] + 1 < len(heads) else len(lines)
        rest = rest[2:]
    elif rest and rest[0] == "links":
        start = next((n for n, line in enumerate(lines) if re.match(r"\s*\[\s*links\s*\]", line)), 0)
        rest = rest[1:]
    if not rest or not isinstance(rest[0], str):
        return start + 1
    found = next(
        (n for n in range(start, end) if re.match(rf'\s*"?{re.escape(rest[0])}"?\s*=', lines[n])), None
    )
    if found is None:
        return start + 1
    if len(rest) > 1 and isinstance(rest[1], int):
        # An array of inline tables: the line of its n-th brace.
        braces = [n for n in range(found, end) for _ in re.findall(r"\{", lines[n].partition("#")[0])]
        if rest[1] < len(braces):
            return braces[rest[1]] + 1
    return found + 1
