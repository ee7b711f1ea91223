"""The product: what the air at a station was in one window, on what grounds, and how sure that is."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, Final, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from schemas.base import DeviceId, Record, StationId, UtcTime, format_time
from schemas.errors import Refused
from schemas.parameters import OwnWeather, Pollutant

#: Header of an estimate that `skyfuse backfill` made; the value is `true`.
BACKFILLED: Final = "x-backfilled"

#: Times of a series are nanoseconds since 1970 in 64 bits.
_LATEST_END: Final = datetime(2262, 1, 1, tzinfo=UTC)
#: Counters are stored in 64 bits.
_LARGEST: Final = 2**63 - 1

ValueKind = Literal["measured", "corrected", "imputed"]
Sides = Literal["both", "image", "sensors", "none"]
Status = Literal["valid", "indicative", "insufficient"]
QualityFlag = Annotated[
    int, Field(description="QARTOD: 1 pass, 2 not evaluated, 3 suspect, 4 fail, 9 missing")
]


class Window(Record):
    """Half-open [start, end) in event time; a series is stamped with `end`."""

    start: UtcTime
    end: UtcTime

    @model_validator(mode="after")
    def _possible(self) -> "Window":
        if not self.start < self.end < _LATEST_END:
            raise PydanticCustomError(
                "not_a_window",
                "a window from {start} to {end}: it ends after it starts, and before 2262 (no later time fits"
                " into the series' nanoseconds)",
                {"start": format_time(self.start), "end": format_time(self.end)},
            )
        return self


class PollutantEstimate(Record):
    """One pollutant in one window. Concentrations in ug/m3."""

    value: Annotated[float, Field(description="ug/m3")]
    kind: Annotated[
        ValueKind, Field(description="imputed: no usable measurement in this window; it stays marked")
    ]
    qc: Annotated[QualityFlag, Field(description="worst flag of the readings used; 9 where there were none")]
    qc_tests: Annotated[int, Field(description="bit mask of the tests that did not pass (docs/aqi.md)")] = 0
    lo: Annotated[float | None, Field(description="lower end of the 90 % interval, ug/m3; imputed only")] = (
        None
    )
    hi: Annotated[float | None, Field(description="upper end of the 90 % interval, ug/m3; imputed only")] = (
        None
    )
    method: Annotated[
        str,
        Field(
            description="measured: mean; corrected: id of the correction;"
            " imputed: what carried it: camera, last, global, head (the model alone), or network"
            " (its neighbours)"
        ),
    ] = "mean"
    weights: Annotated[
        dict[str, float],
        Field(
            description="imputed: shares in the value of camera, last and global (the head); where a region"
            " carries it of neighbours, own (the station's other pollutants), past and its own camera"
        ),
    ] = {}
    coverage: Annotated[
        float | None,
        Field(
            description="imputed: share of such intervals at this station that held lately, where the sensor"
            " could tell; None while too few were checked"
        ),
    ] = None
    taught_by: Annotated[
        dict[str, int],
        Field(
            description="imputed, where a camera has a share in it: who taught its readout, by hours with a"
            " picture: sensor (its own), network (its neighbours, with their uncertainty)"
        ),
    ] = {}
    raw: Annotated[
        float | None, Field(description="mean of the raw values, ug/m3, also where they failed")
    ] = None
    n: Annotated[int, Field(description="readings used")] = 0
    since: Annotated[
        UtcTime | None,
        Field(
            description="beginning of the declared period that this is the mean of; it ends in this window"
        ),
    ] = None
    covered_s: Annotated[
        int | None,
        Field(
            ge=0,
            description="measured: seconds of the window that the readings stand for; None: all of it; 0: a"
            " running mean, whose period is counted by the one that ends with it",
        ),
    ] = None
    sensors: tuple[DeviceId, ...] = ()
    refused: Annotated[
        dict[str, str],
        Field(description="sensors (or sensor/channel) that were left out, each with the reason in words"),
    ] = {}


class MissingPollutant(Record):
    """A pollutant whose readings could not be used in a window, and that nothing could impute."""

    raw: Annotated[float, Field(description="mean of the readings, ug/m3")]
    qc: Annotated[QualityFlag, Field(description="flag of the worst; 9 where none could be judged")]
    qc_tests: Annotated[int, Field(description="bit mask of the tests that did not pass (docs/aqi.md)")] = 0
    n: Annotated[int, Field(description="readings")]
    sensors: tuple[DeviceId, ...] = ()
    refused: Annotated[dict[str, str], Field(description="what was left out, and why, in words")] = {}


DriftKind = Literal["slide", "step", "scale", "offset", "unit", "stuck"]


class SensorDrift(Record):
    """How a sensor has left its neighbours, by what they let expect of it day by day (docs/network.md)."""

    kind: Annotated[
        DriftKind,
        Field(
            description="slide: day by day; at once: step (by a factor or a constant), scale (a factor),"
            " offset (a constant), unit (the factor between two units); stuck: at one value"
        ),
    ]
    since: Annotated[UtcTime, Field(description="about when it began")]
    share: Annotated[
        float, Field(description="by how much it reads too much now, as a share; below 0: too little")
    ]
    reason: Annotated[str, Field(description="the same in words")]


class ModelOutput(Record):
    """What the model alone says from the window, before anything else is blended in."""

    aqi: Annotated[float, Field(description="AQI points on the scale of the bundle's training data")]
    lo: Annotated[float | None, Field(description="lower end of the 90 % interval")] = None
    hi: Annotated[float | None, Field(description="upper end of the 90 % interval")] = None
    sensors: Annotated[dict[Pollutant, float], Field(description="estimated concentrations, ug/m3")]
    shares: Annotated[
        dict[str, float], Field(description="exact Shapley shares of the readings and the image in `aqi`")
    ] = {}


class IndexBlock(Record):
    """An index by a declared standard, computed from the concentrations."""

    standard: str
    index: Annotated[
        int | None, Field(description="None where the standard gives none; see status and reason")
    ]
    category: str | None
    level: Annotated[int | None, Field(description="0 = best category of the standard")]
    dominant: tuple[Pollutant, ...] = ()
    status: Status
    reason: Annotated[str, Field(description="why it is not valid, in words")] = ""
    imputed_share: Annotated[float, Field(ge=0, le=1, description="share of the input that was imputed")]
    lo: Annotated[
        int | None,
        Field(
            description="lower end of the index's 90 % interval, of the pollutants that count in it;"
            " None where no input of theirs was imputed"
        ),
    ] = None
    hi: Annotated[int | None, Field(description="upper end of it")] = None
    nowcast: Annotated[
        int | None,
        Field(description="NowCast index; None where the standard has none, or see nowcast_reason"),
    ] = None
    nowcast_lo: Annotated[
        int | None, Field(description="lower end of its interval; None where no input of it was imputed")
    ] = None
    nowcast_hi: Annotated[int | None, Field(description="upper end of it")] = None
    nowcast_reason: Annotated[
        str, Field(description="why there is no NowCast, in words, where the standard has one")
    ] = ""
    subindices: Annotated[
        dict[Pollutant, int],
        Field(description="also of pollutants that do not count in the index (docs/aqi.md: what may lead)"),
    ] = {}


class FrameUse(Record):
    """A frame of the window and whether it was used."""

    camera: DeviceId
    captured_at: UtcTime
    usable: bool
    reasons: tuple[str, ...] = ()


class Inputs(Record):
    """What the estimate rests on."""

    readings: Annotated[int, Field(description="distinct values")]
    frames: tuple[FrameUse, ...] = ()
    standing: Annotated[
        int,
        Field(
            description="of the values, those that another window heard and that still stand, or stood before"
        ),
    ] = 0
    humidity: Annotated[float | None, Field(description="mean relative humidity, %")] = None
    weather: Annotated[
        dict[OwnWeather, float],
        Field(
            description="what else of the weather the station's own sensors measured: Cel, hPa, m/s, degrees"
            " from which it blows"
        ),
    ] = {}
    withheld: Annotated[
        dict[str, int],
        Field(description="values that were invalidated and do not count, by the annotation's id"),
    ] = {}


class Estimate(Record):
    """One revision of one window of one station. Kafka key: the station id.

    `revision` is the number of distinct inputs, and of the times that it was published again on the same ones
    (`amended`), so it only grows: consumers keep the highest per (station, window). The same inputs give the
    same bytes, also after a crash.
    """

    station: StationId
    window: Window
    revision: Annotated[int, Field(ge=1, le=_LARGEST)]
    amended: Annotated[
        int,
        Field(
            ge=0, le=_LARGEST,
            description="how often it was published again although no input was added: its averages count"
            " more of the past now, or readings of it were invalidated; and inputs that others of its region"
            " sent. Part of `revision`",
        ),
    ] = 0  # fmt: skip
    sides: Annotated[Sides, Field(description="sides with usable data; none: data came, but was not usable")]
    pollutants: dict[Pollutant, PollutantEstimate]
    missing: Annotated[
        dict[Pollutant, MissingPollutant],
        Field(description="pollutants that were measured in vain: no value, and none that could be imputed"),
    ] = {}
    model: ModelOutput | None = None
    drift: Annotated[
        dict[Pollutant, SensorDrift] | None,
        Field(
            description="measured pollutants whose sensor has left its neighbours; None: nobody watches it"
        ),
    ] = None
    indices: Annotated[
        tuple[IndexBlock, ...], Field(description="the station's standards, the leading one first")
    ]
    inputs: Inputs
    bundle: str

    @property
    def unheard(self) -> bool:
        """Whether the station said nothing: what is there is from its region alone."""
        return not (self.inputs.readings or self.inputs.frames or self.inputs.withheld)


#: No air has more ug/m3, no index more points, no window more inputs; no sentence of ours is longer.
_CONCENTRATION: Final = 1e6
_POINTS: Final = 100_000
_INPUTS: Final = 10**9
_NAME: Final = 500
_WORDS: Final = 16_000


def check_size(estimate: Estimate) -> None:
    """Raises Refused for an estimate with a number, or words, of a size that none of ours has.

    Whoever produces estimates is shown on the screen and in the store's answers, and the highest revision of
    a window counts for ever. No check of the schema's: what an earlier version stored is read as it is.
    """
    _at_most(_INPUTS, "", revision=estimate.revision, amended=estimate.amended)
    _short(_NAME, "bundle", [estimate.bundle])
    for name, one in estimate.pollutants.items():
        _at_most(_CONCENTRATION, name, value=one.value, lo=one.lo, hi=one.hi, raw=one.raw)
        _at_most(_INPUTS, name, n=one.n, covered_s=one.covered_s, qc=one.qc, qc_tests=one.qc_tests)
        _at_most(_CONCENTRATION, name, coverage=one.coverage)
        _at_most(_CONCENTRATION, "weights", **one.weights)
        _short(_NAME, name, [one.method, *one.weights, *one.taught_by])
        _at_most(_INPUTS, "taught_by", **one.taught_by)
        _short(_WORDS, name, [*one.refused, *one.refused.values()])
    for name, lost in estimate.missing.items():
        _at_most(_CONCENTRATION, name, raw=lost.raw)
        _at_most(_INPUTS, name, n=lost.n, qc=lost.qc, qc_tests=lost.qc_tests)
        _short(_WORDS, name, [*lost.refused, *lost.refused.values()])
    for name, departure in (estimate.drift or {}).items():
        _at_most(_CONCENTRATION, name, drift=departure.share)
        _short(_WORDS, name, [departure.reason])
    for block in estimate.indices:
        _short(_NAME, "indices", [block.standard, block.category or ""])
        _short(_WORDS, "indices", [block.reason, block.nowcast_reason])
        _at_most(
            _POINTS, block.standard, index=block.index, lo=block.lo, hi=block.hi, nowcast=block.nowcast,
            nowcast_lo=block.nowcast_lo, nowcast_hi=block.nowcast_hi, level=block.level,
        )  # fmt: skip
        _at_most(_POINTS, "subindices", **block.subindices)
    if (said := estimate.model) is not None:
        _at_most(_CONCENTRATION, "model", aqi=said.aqi, lo=said.lo, hi=said.hi)
        _at_most(_CONCENTRATION, "model.sensors", **said.sensors)
        _at_most(_CONCENTRATION, "model.shares", **said.shares)
        _short(_NAME, "model.shares", said.shares)
    inputs = estimate.inputs
    _at_most(_INPUTS, "inputs", readings=inputs.readings, standing=inputs.standing)
    _at_most(_INPUTS, "inputs.withheld", **inputs.withheld)
    _at_most(_CONCENTRATION, "inputs", humidity=inputs.humidity)
    _at_most(_CONCENTRATION, "inputs.weather", **inputs.weather)
    _short(_NAME, "inputs.withheld", inputs.withheld)


def _at_most(most: float, where: str, /, **numbers: float | None) -> None:
    for name, number in numbers.items():
        if number is not None and abs(number) > most:
            path = f"{where[:64]}.{name[:64]}" if where else name
            raise Refused(
                "out_of_range", f"{path} is {number:.6g}: beyond {most:g}, which no estimate of skyfuse is"
            )


def _short(most: int, where: str, texts: Iterable[str]) -> None:
    longest = max(map(len, texts), default=0)
    if longest > most:
        raise Refused("too_long", f"{where}: a text of {longest} characters; {most} are enough")
