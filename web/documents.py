"""What the API answers, as models: the OpenAPI document is made from them. Concentrations in ug/m3.

Long because it is one list, which is read beside the document.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from schemas.base import UtcTime
from schemas.estimate import Estimate, Sides, Status, ValueKind
from schemas.forecast import REASONS_HOURS
from schemas.parameters import Pollutant


class Document(BaseModel):
    """An answer. Fields may be added within a version of the API, never taken away."""

    model_config = ConfigDict(frozen=True)


class ProblemDocument(Document):
    """An error (RFC 9457)."""

    type: Annotated[str, Field(description="stable, for programs: urn:skyfuse:CODE")]
    title: str
    status: int
    detail: Annotated[str, Field(description="what is wrong, and how to mend it")]


#: Who carries values.
ValueCarrier = Literal["sensors", "camera", "neighbours", "past"]


class PollutantNow(Document):
    """One pollutant in a station's newest window."""

    value: Annotated[float, Field(description="ug/m3")]
    kind: ValueKind
    qc: Annotated[int, Field(description="QARTOD: 1 pass, 2 not evaluated, 3 suspect, 4 fail, 9 missing")]
    lo: Annotated[float | None, Field(description="lower end of the 90 % interval; imputed only")] = None
    hi: Annotated[float | None, Field(description="upper end of it")] = None
    method: str = ""


class IndexNow(Document):
    """A station's leading index in its newest window."""

    standard: str
    index: int | None
    category: str | None
    level: int | None
    status: Status
    reason: str = ""
    dominant: tuple[Pollutant, ...] = ()
    lo: int | None = None
    hi: int | None = None
    imputed_share: float = 0.0


class StationNow(Document):
    """A station's newest window, in brief. `revision` only grows: keep the highest of a window."""

    station: str
    at: Annotated[UtcTime, Field(description="end of the window")]
    window_s: int
    revision: int
    sides: Annotated[Sides, Field(description="sides with usable data")]
    sources: Annotated[
        tuple[ValueCarrier, ...],
        Field(
            description="who carries its values: sensors what is measured, and what the station's other"
            " pollutants tell; camera, neighbours and past what they stand in for"
        ),
    ] = ()
    index: IndexNow | None
    pollutants: dict[Pollutant, PollutantNow]
    missing: Annotated[tuple[Pollutant, ...], Field(description="measured in vain, and not imputed")] = ()
    refused: Annotated[
        dict[str, str],
        Field(description="what was left out of the window and why, by pollutant/sensor: pm25/pm-b"),
    ] = {}
    measured: Annotated[int, Field(description="pollutants measured or corrected, a count")]
    imputed: Annotated[int, Field(description="pollutants imputed, a count")]


class LatestPage(Document):
    """The newest windows, by station id. `next` leads to the next page; null: this is the last one."""

    stations: tuple[StationNow, ...]
    next: str | None


class PointGeometry(Document):
    """GeoJSON: longitude and latitude, degrees (WGS 84)."""

    type: Literal["Point"] = "Point"
    coordinates: tuple[float, float]


class StationProperties(Document):
    """What is known of a station."""

    station: str
    name: str = ""
    city: str = ""
    kind: str = ""
    timezone: str = "UTC"
    standards: tuple[str, ...] = ()
    cameras: int = 0
    sensors: int = 0
    parameters: Annotated[tuple[str, ...], Field(description="what its sensors measure")] = ()
    state: Annotated[
        str | None, Field(description="online, late, silent, offline; null: the fleet's stage has not said")
    ] = None
    heard_at: UtcTime | None = None
    stale_after_s: Annotated[int, Field(description="age from which its newest window is no news any more")]


class StationFeature(Document):
    """A station as a GeoJSON feature; its geometry is null where nobody recorded a place."""

    type: Literal["Feature"] = "Feature"
    id: str
    geometry: PointGeometry | None
    properties: StationProperties


class StationsPage(Document):
    """GeoJSON. `next` leads to the next page; null: this is the last one."""

    type: Literal["FeatureCollection"] = "FeatureCollection"
    features: tuple[StationFeature, ...]
    next: str | None


class SeriesColumns(Document):
    """A series in columns of one length: what windows have, or spans of time where there are too many.

    `measured`, `partly` and `imputed` are means of the windows of that kind (ug/m3, or points of an index),
    null where a span has none: an index that rests on both kinds of input, and an hour or a day with windows
    of both, is in `partly` alone. `lo` and `hi` are the ends of the widest 90 % interval, `least` and `most`
    the extremes.
    """

    station: str
    what: Annotated[str, Field(description="a pollutant, or `index`")]
    unit: str
    standard: str | None = None
    span_s: Annotated[int, Field(description="length of a span; 0: each point is a window")]
    at: tuple[UtcTime, ...]
    measured: tuple[float | None, ...]
    imputed: tuple[float | None, ...]
    partly: Annotated[tuple[float | None, ...], Field(description="measured in part, imputed in part")] = ()
    lo: tuple[float | None, ...]
    hi: tuple[float | None, ...]
    least: tuple[float | None, ...]
    most: tuple[float | None, ...]
    qc: Annotated[
        tuple[int | None, ...],
        Field(description="worst QARTOD flag; of an index: 0 valid, 1 indicative, 2 insufficient"),
    ]
    shares: Annotated[
        dict[str, tuple[float, ...]],
        Field(description="by such a flag, the share of each span's windows with it; the rest is unknown"),
    ] = {}
    lengths_s: Annotated[
        tuple[int, ...],
        Field(description="3600 or 86400 where it is an hour or a day that is left of windows, else 0"),
    ] = ()


class PollutantFan(Document):
    """One pollutant of a forecast, ug/m3; lists are by hour."""

    mean: tuple[float, ...]
    quantiles: Annotated[tuple[tuple[float, ...], ...], Field(description="by level, the hours of each")]
    imputed_share: Annotated[
        float, Field(description="share of the last 24 hours of which nothing was measured, 0 to 1")
    ]


class IndexFan(Document):
    """The index of a forecast's hours, as if each lasted; lists are by hour."""

    standard: str
    index: Annotated[tuple[int | None, ...], Field(description="of the medians")]
    lo: Annotated[tuple[int | None, ...], Field(description="of the .05 quantiles")]
    hi: Annotated[tuple[int | None, ...], Field(description="of the .95 quantiles")]
    categories: Annotated[tuple[str, ...], Field(description="keys of the standard's, the best one first")]
    probabilities: Annotated[
        tuple[tuple[float, ...], ...], Field(description="by category, the hours of each")
    ]
    membership: Annotated[
        tuple[tuple[float, ...], ...],
        Field(
            description="by category, the hours of each: the degree to which the index belongs to it, within"
            " 5 points of an edge to both sides; empty where the forecast does not tell"
        ),
    ]


class ForecastMove(Document):
    """What moves the mean of one pollutant so far ahead, ug/m3: change = all shares + rest."""

    hours: Annotated[int, Field(description="ahead")]
    last: Annotated[float, Field(description="the last value")]
    change: Annotated[float, Field(description="from the last value to the mean that is foretold")]
    shares: Annotated[dict[str, float], Field(description="by subject, those that move it most")]
    rest: Annotated[float, Field(description="what all else adds")]


class ForecastFan(Document):
    """The newest forecast of a station: the next three days as they were foretold, hour by hour."""

    issued_at: Annotated[UtcTime, Field(description="end of the last hour that was known")]
    revision: int
    model: Annotated[str, Field(description="bundle, its version, and the model in it")]
    weather_issued_at: Annotated[
        UtcTime | None, Field(description="of the newest weather to come that was used; null: none was")
    ]
    history_h: Annotated[
        int | None,
        Field(
            description="hours of the last week of which anything was measured: with few of them draw it"
            " fainter; null: not told"
        ),
    ]
    reasons: Annotated[
        dict[Pollutant, str],
        Field(
            description=f"what moves it, {REASONS_HOURS} hours ahead, in a sentence; of what makes the index"
        ),
    ]
    moves: Annotated[
        dict[Pollutant, ForecastMove], Field(description="the same in numbers, for other languages and units")
    ] = {}
    at: Annotated[tuple[UtcTime, ...], Field(description="ends of the hours")]
    levels: Annotated[tuple[float, ...], Field(description="of the quantiles")]
    pollutants: dict[Pollutant, PollutantFan]
    indices: tuple[IndexFan, ...]


class ForecastAnswer(Document):
    """A station's newest forecast; null where none was made, or where all its hours are over."""

    station: str
    forecast: ForecastFan | None


class AlertNow(Document):
    """The newest event of an alert, as on the topic (docs/outputs.md)."""

    id: str
    sequence: int
    event: Literal["open", "update", "clear", "retract"]
    station: str
    rule: str
    severity: str
    at: UtcTime
    since: UtcTime
    opened: UtcTime | None
    reason: str
    told: Annotated[
        "Sentence | None", Field(description="the reason for other languages; null: not known")
    ] = None
    active: bool


class AlertsPage(Document):
    """Alerts, the newest first."""

    alerts: tuple[AlertNow, ...]
    next: str | None


class RuleNow(Document):
    """Why the alert of a rule is or is not open."""

    rule: str
    open: bool
    severity: str
    text: str


class PendingNow(Document):
    """An alert that opens, or rises, at a time if what is seen now lasts."""

    station: str
    rule: str
    severity: str
    at: UtcTime


class PendingList(Document):
    """Alerts on their way, the next one first."""

    pending: tuple[PendingNow, ...]


class AlertsExplained(Document):
    """Why each alert of a station is or is not open."""

    station: str
    rules: tuple[RuleNow, ...]


class Sentence(Document):
    """Something that is said: in English, and for other languages as a code with what it is said of."""

    code: Annotated[str, Field(description="stable; one that is not known is to be shown as `text`")]
    text: str
    values: Annotated[
        dict[str, Any], Field(description="what stands in it: numbers, codes, names; shares from 0 to 1")
    ] = {}
    parts: Annotated[tuple["Sentence", ...], Field(description="the reasons for it")] = ()


class Explained(Document):
    """An estimate as it is on the topic, and what it rests on in words."""

    estimate: Annotated[dict[str, Any], Field(json_schema_extra=lambda schema: schema.update(_ESTIMATE))]
    why: tuple[str, ...]
    told: Annotated[tuple[Sentence, ...], Field(description="the same, for other languages")] = ()


_ESTIMATE: dict[str, Any] = {"type": "object", "description": Estimate.__doc__ or ""}


class SensorListening(Document):
    """Who would stand in for a pollutant at a station, were it silent for a day: shares, 0 to 1, of all 1."""

    pollutant: Pollutant
    neighbours: Annotated[dict[str, float], Field(description="of other stations, the largest first")]
    own: Annotated[float, Field(description="of the station's other pollutants")]
    past: Annotated[float, Field(description="of the pollutant's own past here")]


class ListeningAnswer(Document):
    """Whom a station listens to, as its region has learned; empty where no network's stage runs."""

    station: str
    sensors: tuple[SensorListening, ...]


class Notable(Document):
    """Something to look at."""

    what: Literal["lying", "drift", "silent", "camera_only", "pending", "alert", "stale"]
    station: str
    detail: Annotated[str, Field(description="a sensor, a rule, or a pollutant whose sensor drifts")] = ""
    text: str
    at: UtcTime | None = None
    told: Annotated[Sentence | None, Field(description="`text` without the station, for other languages")] = (
        None
    )


class NotablesList(Document):
    """What to look at now, the most telling first: open alerts, then one of each kind, then the others."""

    notable: tuple[Notable, ...]
    more: Annotated[dict[str, int], Field(description="by `what`, how many there are beside these")] = {}
    coming: Annotated[
        bool,
        Field(
            description="there are no windows yet, or those that come are of a while ago: what there is of"
            " the past is being worked off, and nothing follows from what is not told"
        ),
    ] = False


class StationQuality(Document):
    """What a station's last hours were made of: windows, values of each kind, flags."""

    station: str
    windows: int
    covered: Annotated[float | None, Field(description="share of the time with a window, 0 to 1")]
    measured: int
    imputed: int
    missing: int
    flags: Annotated[dict[str, int], Field(description="measured values by QARTOD flag, counts")]
    refused: Annotated[
        dict[str, str], Field(description="left out of the newest window, and why: by pollutant/sensor")
    ]
    state: str | None = None
    troubles: tuple[str, ...] = ()
    clock_offset_s: float | None = None
    battery_percent: float | None = None
    heard_at: UtcTime | None = None


class QualityPage(Document):
    """The stations' quality, by id."""

    hours: int
    stations: tuple[StationQuality, ...]
    next: str | None


class WorkerHealth(Document):
    """How a worker fares, by its metrics."""

    role: str
    up: bool
    down_since: Annotated[UtcTime | None, Field(description="since when it does not answer")] = None
    lag_messages: int = 0
    lag_s: float = 0.0
    watermark: Annotated[UtcTime | None, Field(description="the earliest of its sources")] = None
    waits_for: Annotated[str | None, Field(description="an engine that its sink waits for, and why")] = None
    waits_since: UtcTime | None = None
    behind_since: Annotated[
        UtcTime | None, Field(description="since when it is minutes behind: the newest it has read is old")
    ] = None


class Health(Document):
    """How the pipeline fares, as this server sees it."""

    status: Literal["ok", "degraded"]
    problems: tuple[str, ...]
    version: str
    kafka: Literal["ok", "away"]
    kafka_since: UtcTime | None
    newest: Annotated[UtcTime | None, Field(description="end of the newest window of all")]
    stations: int
    streams: int
    workers: tuple[WorkerHealth, ...]
    refused: Annotated[dict[str, int], Field(description="dead letters seen since the start, by code")]


class ShownLetter(Document):
    """A dead letter: why a record was refused. Its bytes are not shown: `skyfuse dlq show ID`."""

    id: str
    stage: str
    code: str
    reason: str
    failed_at: UtcTime
    partly_used: bool
    redriven_at: UtcTime | None


class LettersPage(Document):
    """The newest dead letters."""

    letters: tuple[ShownLetter, ...]


class CategoryShown(Document):
    """A category of a standard and how it is drawn."""

    key: str
    low: int
    high: int | None
    colour: Annotated[str, Field(description="of the standard's own document")]
    shade: Annotated[str, Field(description="from light to dark: for eyes that see few colours")]
    ink: Annotated[str, Field(description="black or white: what can be read on the shade")]
    name: dict[str, str]
    advice: dict[str, str]


class StandardShown(Document):
    """A standard of the stations."""

    id: str
    name: str
    categories: tuple[CategoryShown, ...]


class SiteDocument(Document):
    """What the page has to know of this place."""

    title: str
    version: str
    standards: tuple[StandardShown, ...]
    tiles: str | None
    tiles_credit: str
    open_scopes: tuple[str, ...]
    pictures: bool
    ug_per_ppb: Annotated[dict[str, float], Field(description="of gases, at 25 degrees and 1 atm")]


class CameraPicture(Document):
    """The newest picture of a camera, small, and where its copies are."""

    camera: str
    at: UtcTime
    usable: bool | None
    reasons: tuple[str, ...] = ()
    image: str
    heat: Annotated[str | None, Field(description="with what the model looked at; null: no such bundle")]
    far_band: Annotated[
        tuple[float, float, float, float] | None, Field(description="top, bottom, left, right: fractions")
    ] = None


class PicturesList(Document):
    """A station's cameras."""

    station: str
    cameras: tuple[CameraPicture, ...]
