"""Quality control of readings as they arrive: QARTOD primary flags and a bitmask of the tests that objected.

    1 good · 2 not evaluated (no test could run) · 3 suspect · 4 fail · 9 missing

`step` judges one reading of one sensor with a constant amount of state and returns the new state; only `FAIL`
makes a value missing. Tests and their meaning are those of QARTOD as `ioos_qc` has them, made incremental:

- gross range, rate of change, flat line and stuck are known when the reading arrives;
- a spike is a reading that stands out from *both* neighbours on the same side (the "differential" method: its
  neighbours are not blamed for it), so it is known one reading later: `step` then
  returns the revised verdict of the previous reading. `judge` applies that within a list of readings, so only
  the last reading of a window waits for the next window; the rate of change speaks for it at once;
- a reading that fails the gross range, or is missing, is no neighbour for the other tests, and neither is one
  further away than `gap_s`. (ioos_qc lets an error code spoil both its neighbours.)

The A/B channel and neighbour tests need other values and are functions of their own; `combine` merges
verdicts.
"""

import math
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cache
from importlib import resources
from typing import Any, Final, NamedTuple

from aqi.errors import QualityError

GOOD: Final = 1
NOT_EVALUATED: Final = 2
SUSPECT: Final = 3
FAIL: Final = 4
MISSING: Final = 9

GROSS_RANGE: Final = 1
RATE_OF_CHANGE: Final = 2
SPIKE: Final = 4
FLAT_LINE: Final = 8
STUCK: Final = 16
GAP: Final = 32
TIME: Final = 64
CHANNELS: Final = 128
NEIGHBOURS: Final = 256
FILL_VALUE: Final = 512
PARTICLES: Final = 1024
UNIT: Final = 2048
ZERO: Final = 4096

#: Bit of each test, by name.
TESTS: Final[dict[str, int]] = {
    "gross_range": GROSS_RANGE,
    "rate_of_change": RATE_OF_CHANGE,
    "spike": SPIKE,
    "flat_line": FLAT_LINE,
    "stuck": STUCK,
    "gap": GAP,
    "time": TIME,
    "channels": CHANNELS,
    "neighbours": NEIGHBOURS,
    "fill_value": FILL_VALUE,
    "particles": PARTICLES,
    "unit": UNIT,
    "zero": ZERO,
}

#: Most readings that the flat-line test remembers; beyond, it starts again (it then objects later, never
#: wrongly).
_FLAT_MEMORY: Final = 64


def tests_in(bits: int) -> tuple[str, ...]:
    """Names of the tests whose bits are set."""
    return tuple(name for name, bit in TESTS.items() if bits & bit)


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one parameter; None switches a test off. Values in ug/m3, times in seconds."""

    fail_span: tuple[float, float] | None = None
    suspect_span: tuple[float, float] | None = None
    rate: float | None = None
    rate_floor: float = 0.0
    spike: float | None = None
    spike_fail: float | None = None
    flat_tolerance: float | None = None
    flat_suspect_s: int | None = None
    flat_fail_s: int | None = None
    stuck_above: float = -math.inf
    stuck_suspect_s: int | None = None
    stuck_fail_s: int | None = None
    tiny_below: float | None = None
    tiny_s: int | None = None
    lowest_mean: float | None = None
    gap_s: int | None = None
    future_s: int | None = None
    stale_s: int | None = None
    #: The same as plain numbers, for `step` is called for every reading: a switched-off test has a limit that
    #: nothing exceeds. Times in milliseconds.
    plan: tuple[Any, ...] = field(init=False, repr=False, compare=False, default=())

    def __post_init__(self) -> None:
        for name in ("fail_span", "suspect_span"):
            span = getattr(self, name)
            if span is not None and not span[0] < span[1]:
                raise QualityError(f"{name} {list(span)} must be [lowest, highest]")
        inside, outside = self.suspect_span, self.fail_span
        if inside and outside and (inside[0] < outside[0] or inside[1] > outside[1]):
            raise QualityError(f"suspect_span {list(inside)} must lie within fail_span {list(outside)}")
        if (self.flat_tolerance is None) != (self.flat_suspect_s is None and self.flat_fail_s is None):
            raise QualityError("flat_tolerance needs flat_suspect_s or flat_fail_s, and they need it")
        if self.flat_tolerance is not None and not self.flat_tolerance > 0:
            raise QualityError(
                "flat_tolerance must be above zero: exactly equal readings are the stuck test's"
            )
        if (self.tiny_below is None) != (self.tiny_s is None):
            raise QualityError("tiny_below needs tiny_s, and it needs tiny_below")
        if self.lowest_mean is not None and not self.lowest_mean < 0:
            raise QualityError("lowest_mean must be below zero: the mean of clean air is above it")
        object.__setattr__(self, "plan", self._plan())

    def _plan(self) -> tuple[Any, ...]:
        def number_or_inf(number: float | None) -> float:
            return math.inf if number is None else number

        def ms(seconds: int | None) -> float:
            return math.inf if seconds is None else seconds * 1000

        # Whether a test runs on any reading at all, so that the flag is at least GOOD.
        always = any(
            limit is not None
            for limit in (
                self.fail_span,
                self.suspect_span,
                self.flat_tolerance,
                self.stuck_suspect_s,
                self.stuck_fail_s,
                self.tiny_s,
            )
        )
        return (
            *(self.fail_span or (-math.inf, math.inf)),
            *(self.suspect_span or (-math.inf, math.inf)),
            GOOD if always else 0,
            number_or_inf(self.rate),
            self.rate_floor,
            number_or_inf(self.spike),
            number_or_inf(self.spike_fail),
            self.flat_tolerance,
            ms(self.flat_suspect_s),
            ms(self.flat_fail_s),
            1000 * max(self.flat_suspect_s or 0, self.flat_fail_s or 0),
            self.stuck_above,
            ms(self.stuck_suspect_s),
            ms(self.stuck_fail_s),
            ms(self.gap_s),
            ms(self.future_s),
            ms(self.stale_s),
            -math.inf if self.tiny_below is None else self.tiny_below,
            ms(self.tiny_s),
        )


class SensorState(NamedTuple):
    """What the tests remember of one sensor's past. Times in ms, -1 where there is none yet.

    Stored by position (`schemas.state`): another field goes to the end, with a default.
    """

    t_ms: int = -1  # newest reading of any kind
    last_ms: int = -1  # newest usable reading and its value
    last: float = 0.0
    follows: bool = False  # whether that is the newest reading: nothing missing or failed came after it
    before_ms: int = -1  # the usable reading right before it, -1 where that was missing or failed
    before: float = 0.0
    last_flag: int = 0  # verdict of the newest reading, to be revised by the spike test
    last_tests: int = 0
    stuck_ms: int = -1  # since when the value has been the same
    flat_ms: int = -1  # newest reading that was out of tolerance of the present run
    lows: tuple[tuple[int, float], ...] = ()  # candidates for the lowest and highest of the run, oldest first
    highs: tuple[tuple[int, float], ...] = ()
    tiny_ms: int = -1  # since when no reading has been other than zero or tiny


#: State of a sensor that has not been heard yet.
FRESH: Final = SensorState()


class Verdict(NamedTuple):
    """Flag of a reading, and the bits of the tests that found it suspect or failed it."""

    flag: int
    tests: int


class JudgedReading(NamedTuple):
    """Verdict of a reading, the state to keep, and the new verdict of the reading before if that changed."""

    flag: int
    tests: int
    state: SensorState
    revised: Verdict | None


def step(
    limits: Limits, state: SensorState, t_ms: int, value: float | None, received_ms: int | None = None
) -> JudgedReading:
    """Judges the reading `value` (ug/m3; None or NaN is missing) at event time `t_ms`.

    With `received_ms` the time test compares event time with reception; without (replay) only order is
    tested. A reading not after the newest one is suspect and changes no state: other tests cannot say
    anything about it.
    """
    if value is None or value != value:
        return JudgedReading(
            MISSING, 0, state if t_ms <= state.t_ms else _after_unusable(state, t_ms, MISSING, 0), None
        )
    (
        fail_low, fail_high, low, high, flag, rate, rate_floor, spike, spike_fail, tolerance, flat_suspect,
        flat_fail, flat_longest, stuck_above, stuck_suspect, stuck_fail, gap, future, stale, tiny_below,
        tiny_suspect,
    ) = limits.plan  # fmt: skip
    (
        newest_ms, last_ms, last, follows, before_ms, before, last_flag, last_tests, stuck_ms, flat_ms,
        lows, highs, tiny_ms,
    ) = state  # fmt: skip

    tests = 0
    if not low <= value <= high:
        flag, tests = SUSPECT, GROSS_RANGE
    if not fail_low <= value <= fail_high:
        flag, tests = FAIL, GROSS_RANGE
    if t_ms <= newest_ms:
        return JudgedReading(max(flag, SUSPECT), tests | TIME, state, None)
    if received_ms is not None:
        if t_ms - received_ms > future:
            # Its time is wrong, so it must not become the newest: all that follows would look old.
            return JudgedReading(FAIL, tests | TIME, state, None)
        if received_ms - t_ms > stale:
            flag, tests = max(flag, SUSPECT), tests | TIME
    if flag == FAIL:
        return JudgedReading(FAIL, tests, _after_unusable(state, t_ms, FAIL, tests), None)
    if newest_ms >= 0 and t_ms - newest_ms > gap:
        tests |= GAP  # says that the reading follows a gap; it does not speak against the reading
        flag = flag or GOOD
    if last_ms >= 0 and t_ms - last_ms > gap:
        follows, before_ms, stuck_ms, lows, highs, tiny_ms = False, -1, -1, (), (), -1

    revised: Verdict | None = None
    if follows:
        change = value - last
        if change < 0:
            change = -change
        if change > rate_floor and change > rate * (t_ms - last_ms) / 1000.0:
            flag, tests = SUSPECT, tests | RATE_OF_CHANGE
        elif flag == 0 and limits.rate is not None:
            flag = GOOD
        if before_ms >= 0:
            rise, fall = last - before, last - value
            if rise * fall > 0:
                height = min(abs(rise), abs(fall))
                if height > spike_fail:
                    revised = Verdict(FAIL, last_tests | SPIKE)
                elif height > spike:
                    revised = Verdict(max(last_flag, SUSPECT), last_tests | SPIKE)
            if revised is None and last_flag == NOT_EVALUATED and limits.spike is not None:
                revised = Verdict(GOOD, last_tests)

    if stuck_ms < 0 or value != last:
        stuck_ms = t_ms
    elif value > stuck_above:
        flag, tests = _lasting(flag, tests, STUCK, t_ms - stuck_ms, stuck_suspect, stuck_fail)
    elif value <= 0.0:  # a dead sensor or very clean air: suspect, but not thrown away
        flag, tests = _lasting(flag, tests, STUCK, t_ms - stuck_ms, stuck_suspect, math.inf)
    if tolerance is not None:
        flat_ms, lows, highs = _flat_run(tolerance, flat_longest, flat_ms, lows, highs, t_ms, value)
        if value > stuck_above:
            flag, tests = _lasting(flag, tests, FLAT_LINE, t_ms - flat_ms - 1, flat_suspect, flat_fail)
    if 0.0 < value < tiny_below:
        tiny_ms = t_ms if tiny_ms < 0 else tiny_ms
    elif value != 0.0:  # a zero among them is one that was rounded
        tiny_ms = -1
    if tiny_ms >= 0:
        flag, tests = _lasting(flag, tests, UNIT, t_ms - tiny_ms, tiny_suspect, math.inf)
    flag = flag or NOT_EVALUATED
    return JudgedReading(
        flag,
        tests,
        SensorState(
            t_ms,
            t_ms,
            value,
            True,
            last_ms if follows else -1,
            last,
            flag,
            tests,
            stuck_ms,
            flat_ms,
            lows,
            highs,
            tiny_ms,
        ),
        revised,
    )


def _lasting(
    flag: int, tests: int, bit: int, lasted_ms: int, suspect_ms: float, fail_ms: float
) -> tuple[int, int]:
    if lasted_ms >= fail_ms:
        return FAIL, tests | bit
    if lasted_ms >= suspect_ms:
        return max(flag, SUSPECT), tests | bit
    return flag, tests


def _after_unusable(state: SensorState, t_ms: int, flag: int, tests: int) -> SensorState:
    # The run of equal or flat values goes on behind a missing reading: a dead sensor that also drops packets.
    return state._replace(t_ms=t_ms, follows=False, before_ms=-1, last_flag=flag, last_tests=tests)


Points = tuple[tuple[int, float], ...]


def _flat_run(
    tolerance: float, longest_ms: int, flat_ms: int, lows: Points, highs: Points, t_ms: int, value: float
) -> tuple[int, Points, Points]:
    """The longest run of readings, ending now, with a range below the tolerance: queues of its extremes.

    `flat_ms` is the time of the newest reading outside the run (or just before the first reading ever): the
    run has lasted since then. Same verdict as ioos_qc's rolling window, without keeping the window.
    """
    point = (t_ms, value)
    alone = (point,)
    if not lows:
        return t_ms - 1, alone, alone
    if value - lows[-1][1] >= tolerance or highs[-1][1] - value >= tolerance:
        # The newest reading is in both queues, at the end: nothing before it can be in the run either.
        return max(lows[-1][0], highs[-1][0]), alone, alone
    low, high = len(lows), len(highs)
    while low and lows[low - 1][1] >= value:
        low -= 1
    while high and highs[high - 1][1] <= value:
        high -= 1
    lows, highs = (*lows[:low], point), (*highs[:high], point)
    while highs[0][1] - lows[0][1] >= tolerance:
        if highs[0][0] < lows[0][0]:
            flat_ms, highs = max(flat_ms, highs[0][0]), highs[1:]
        else:
            flat_ms, lows = max(flat_ms, lows[0][0]), lows[1:]
    while lows[0][0] < t_ms - longest_ms:
        lows = lows[1:]
    while highs[0][0] < t_ms - longest_ms:
        highs = highs[1:]
    if len(lows) > _FLAT_MEMORY or len(highs) > _FLAT_MEMORY:
        return t_ms - 1, alone, alone
    return flat_ms, lows, highs


def judge(
    limits: Limits,
    state: SensorState,
    readings: Iterable[tuple[int, float | None]],
    received_ms: int | None = None,
) -> tuple[list[Verdict], SensorState]:
    """Verdicts of the readings (t_ms, value) of a window, in order of time, and the state after them.

    A spike inside the window is in its verdict already; the last reading is judged without the spike test.

    Examples:
        >>> minute = 60_000
        >>> readings = [(0, 12.0), (minute, 13.0), (2 * minute, 900.0), (3 * minute, 12.5)]
        >>> verdicts, state = judge(defaults().limits["pm25"], FRESH, readings)
        >>> [(verdict.flag, tests_in(verdict.tests)) for verdict in verdicts[:3]]
        [(1, ()), (1, ()), (3, ('rate_of_change', 'spike'))]
        >>> state.last  # and goes on in the next window
        12.5
    """
    verdicts: list[Verdict] = []
    newest = (
        -1
    )  # place of the reading that the state holds as its last; -1 while that is of an earlier window
    for t_ms, value in readings:
        before = state
        flag, tests, state, revised = step(limits, state, t_ms, value, received_ms)
        if revised is not None and newest >= 0:
            verdicts[newest] = revised
        if state is not before:
            newest = len(verdicts)
        verdicts.append(Verdict(flag, tests))
    return verdicts, state


#: Worst last; a flag of one test only ever makes the whole worse. (Missing is decided before any test runs.)
_PRECEDENCE: Final[dict[int, int]] = {MISSING: 0, NOT_EVALUATED: 1, GOOD: 2, SUSPECT: 3, FAIL: 4}


def combine(*verdicts: Verdict) -> Verdict:
    """Verdict of several groups of tests on one reading: the worst (fail, suspect, good, not evaluated)."""
    flag, tests = MISSING, 0
    for verdict in verdicts:
        tests |= verdict.tests
        if _PRECEDENCE[verdict.flag] > _PRECEDENCE[flag]:
            flag = verdict.flag
    return Verdict(flag, tests)


class ChannelRule(NamedTuple):
    """Two channels disagree when they differ by more than `absolute` (ug/m3) *and* `relative`."""

    absolute: float
    relative: float


def channels(a: float | None, b: float | None, rule: ChannelRule) -> Verdict:
    """Whether the two channels of one sensor agree (ug/m3); without both there is nothing to compare."""
    if a is None or b is None or a != a or b != b:
        return Verdict(NOT_EVALUATED, 0)
    difference, mean = abs(a - b), (a + b) / 2.0
    if difference > rule.absolute and difference > rule.relative * abs(mean):
        return Verdict(FAIL, CHANNELS)
    return Verdict(GOOD, 0)


class ParticleRule(NamedTuple):
    """PM2.5 is part of PM10: more of it by `relative` and `absolute` (ug/m3) is impossible."""

    relative: float
    absolute: float


def particles(pm25: float, pm10: float, rule: ParticleRule) -> Verdict:
    """Whether PM2.5 lies above the PM10 beside it (ug/m3); which of the two is wrong cannot be told."""
    if pm25 > pm10 * (1.0 + rule.relative) + rule.absolute:
        return Verdict(SUSPECT, PARTICLES)
    return Verdict(GOOD, 0)


class UnitRule(NamedTuple):
    """Below `lowest` and above `high` (in `unit`) there is hardly such air: it was meant in another unit.

    Above `highest` there is none.
    """

    parameter: str
    unit: str
    lowest: float = 0.0
    high: float = math.inf
    highest: float = math.inf


def unit_doubt(parameter: str, value: float, unit: str, rules: Sequence[UnitRule]) -> Verdict:
    """Whether a value above zero is so low, or so high, for its unit that the unit is in doubt."""
    for rule in rules:
        if (parameter, unit) == (rule.parameter, rule.unit) and value > 0.0:
            if value > rule.highest:
                return Verdict(FAIL, UNIT)
            if value < rule.lowest or value > rule.high:
                return Verdict(SUSPECT, UNIT)
    return Verdict(GOOD, 0)


class NeighbourRule(NamedTuple):
    """When a station stands out from those around it (AirGradient's published rule). Values in ug/m3."""

    stations: int
    radius_km: float
    age_s: float
    low_mean: float
    absolute: float
    deviations: float


class Neighbour(NamedTuple):
    """A reading of another station: how far away (km), how old (s) and its value (ug/m3)."""

    distance_km: float
    age_s: float
    value: float


def neighbours(value: float | None, around: Iterable[Neighbour], rule: NeighbourRule) -> Verdict:
    """Whether `value` stands out from the stations around; suspect at most, as a local source is real too."""
    if value is None or value != value:
        return Verdict(MISSING, 0)
    near = [
        other.value
        for other in around
        if other.distance_km <= rule.radius_km
        and 0 <= other.age_s <= rule.age_s
        and other.value == other.value
    ]
    if len(near) < rule.stations:
        return Verdict(NOT_EVALUATED, 0)
    mean = math.fsum(near) / len(near)
    if mean < rule.low_mean:
        out = abs(value - mean) > rule.absolute
    else:
        spread = math.sqrt(math.fsum((x - mean) ** 2 for x in near) / (len(near) - 1))
        # Neighbours that agree to the last digit must not make everyone else an outlier.
        out = abs(value - mean) > max(rule.deviations * spread, rule.absolute)
    return Verdict(SUSPECT, NEIGHBOURS) if out else Verdict(GOOD, 0)


EARTH_RADIUS_KM: Final = 6371.0088


def distance_km(latitude: float, longitude: float, latitude_b: float, longitude_b: float) -> float:
    """Great-circle distance between two places given in degrees (haversine)."""
    phi, phi_b = math.radians(latitude), math.radians(latitude_b)
    half = (
        math.sin((phi_b - phi) / 2) ** 2
        + math.cos(phi) * math.cos(phi_b) * math.sin(math.radians(longitude_b - longitude) / 2) ** 2
    )
    return 2 * EARTH_RADIUS_KM * math.asin(min(1.0, math.sqrt(half)))


class Defaults(NamedTuple):
    """The limits that come with the package."""

    limits: Mapping[str, Limits]
    channels: ChannelRule
    neighbours: NeighbourRule
    particles: ParticleRule
    units: tuple[UnitRule, ...]
    #: Age in seconds up to which a humidity serves a correction.
    humidity_s: int
    #: Per type of sensor (`any`: every one) and parameter, the numbers that mean no value, as it sends them.
    fill_values: Mapping[str, Mapping[str, tuple[float, ...]]]


@cache
def defaults() -> Defaults:
    """Limits per pollutant and the rules of the other tests (quality.toml), fill values (sensors.toml)."""
    data, sensors = (
        tomllib.loads(resources.files("aqi").joinpath(name).read_text(encoding="utf-8"))
        for name in ("quality.toml", "sensors.toml")
    )
    pair, around, size, humidity = (
        data.pop(name) for name in ("channels", "neighbours", "particles", "humidity")
    )
    units = tuple(UnitRule(**rule) for rule in data.pop("unit"))
    return Defaults(
        {
            parameter: limits_from(table, f"aqi/quality.toml: [{parameter}]")
            for parameter, table in data.items()
        },
        ChannelRule(**pair),
        NeighbourRule(**around),
        ParticleRule(**size),
        units,
        humidity["age_s"],
        {
            model: {parameter: tuple(numbers) for parameter, numbers in table.items()}
            for model, table in sensors.items()
        },
    )


def plain_model(model: str) -> str:
    """A type of sensor as aqi/sensors.toml writes it: "BAM 1020" and "bam-1020" are one."""
    return "".join(letter for letter in model.lower() if letter.isalnum())


def fill_numbers(
    limits: Defaults, parameter: str, model: str = "", own: Iterable[float] = ()
) -> tuple[float, ...]:
    """The numbers that mean no value of a parameter: any sensor's, those of its `model`, and its `own`."""
    known = limits.fill_values
    fills = known.get("any", {}).get(parameter, ())
    return (*fills, *known.get(plain_model(model), {}).get(parameter, ()), *own)


def is_fill_value(value: float, unit: str, numbers: Iterable[float]) -> bool:
    """Whether a value in `unit` is one of the numbers that mean none (single precision is enough).

    As it was sent; and what comes in mg/m3 or ppm also in the thousandths in which instruments show it, for a
    gateway between them may have scaled it.
    """
    scales = (1.0, 1000.0) if unit in ("mg/m3", "ppm") else (1.0,)
    return any(
        abs(scale * value - number) <= 1e-6 * max(1.0, abs(number)) for number in numbers for scale in scales
    )


_SETTINGS: Final = tuple(limit.name for limit in fields(Limits) if limit.init)


def limits_from(table: Mapping[str, Any], where: str) -> Limits:
    """Limits from a table of settings (names of `Limits`); QualityError names what is wrong in `where`."""
    unknown = table.keys() - set(_SETTINGS)
    if unknown:
        raise QualityError(
            f"{where}: no such limit: {', '.join(sorted(unknown))}; there are {', '.join(_SETTINGS)}"
        )
    spans = {name: tuple(span) for name, span in table.items() if name.endswith("_span")}
    try:
        return Limits(**{**table, **spans})
    except (QualityError, TypeError, IndexError) as refused:
        raise QualityError(f"{where}: {refused}") from refused
