"""What the readings of a window come to: a value of each pollutant, what failed, what is disputed."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from aqi.comparisons import particles
from aqi.flags import Verdict, combine
from aqi.quality_defaults import Defaults
from fusion.sensors.means import SensorMean, together
from schemas.parameters import OwnWeather

#: A window of which less than this share is covered counts for what is.
WHOLE: Final = 0.75


@dataclass(frozen=True)
class Measured:
    """A pollutant's readings in a window: mean `value` after, `raw` before correction (ug/m3).

    `n`: readings; `sensors`: whose; `method`: mean, or the ids of the corrections. `since`: beginning of the
    declared period (ms) that all of them end in this window, 0 where there is none. `covered_s`: seconds of
    the window that they stand for, None: all of it; 0: a running mean, of which another one will tell.
    """

    value: float
    raw: float
    flag: int
    tests: int
    n: int
    sensors: tuple[str, ...]
    method: str
    since: int = 0
    covered_s: int | None = None


class Disputed(NamedTuple):
    """Two values that disagree, by name, and no ground to choose between them so far."""

    names: tuple[str, str]
    values: tuple[Measured, Measured]


@dataclass(frozen=True)
class Readings:
    """What a window's readings say. `failed`, `refused` and `disputed` may lie beside a measured value."""

    measured: Mapping[str, Measured]
    failed: Mapping[str, Measured]
    disputed: Mapping[str, Disputed]
    #: Per pollutant, what was left out (a sensor, or sensor/channel) and why, in words.
    refused: Mapping[str, Mapping[str, str]]
    humidity: float | None
    #: What else its sensors say of the weather.
    weather: Mapping[OwnWeather, float]
    count: int


def measured_of(means: Mapping[str, SensorMean], size: int) -> Measured:
    """What the sensors that are kept say of a pollutant, by their names. `size`: of the window, ms."""
    whole = together(list(means.values()))
    n = sum(mean.n for mean in means.values())
    covered = None if whole.covered >= WHOLE * size else whole.covered and max(1, whole.covered // 1000)
    return Measured(
        whole.value, whole.raw, whole.verdict.flag, whole.verdict.tests, n, tuple(sorted(means)),
        whole.method, whole.since, covered,
    )  # fmt: skip


def failed_of(parts: Iterable[tuple[str, SensorMean]]) -> Measured:
    """What failed of a pollutant. The flag is that of the worst reading, `MISSING` where none was judged."""
    parts = list(parts)
    whole = together([mean for _, mean in parts])
    n = sum(mean.n for _, mean in parts)
    return Measured(
        whole.value, whole.raw, whole.verdict.flag, whole.verdict.tests, n,
        tuple(sorted({sensor for sensor, _ in parts})), whole.method,
    )  # fmt: skip


def check_particles(measured: dict[str, Measured], limits: Defaults) -> None:
    """Flags both where PM2.5 lies above PM10."""
    if "pm25" not in measured or "pm10" not in measured:
        return
    verdict = particles(measured["pm25"].value, measured["pm10"].value, limits.particles)
    if verdict.tests:
        for name in ("pm25", "pm10"):
            found = measured[name]
            whole = combine(Verdict(found.flag, found.tests), verdict)
            measured[name] = Measured(
                found.value, found.raw, whole.flag, whole.tests, found.n, found.sensors, found.method,
                found.since, found.covered_s,
            )  # fmt: skip
