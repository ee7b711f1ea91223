"""An example of every answer that the API's document has. Models' own: a field that is renamed fails here."""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from pydantic import BaseModel

from schemas.estimate import Estimate, IndexBlock, Inputs, PollutantEstimate, Window
from schemas.station import Sensor, Station
from web import documents as docs
from web import managing
from web.brief import brief
from web.why import sentences

_AT: Final = datetime(2026, 8, 21, 10, 1, tzinfo=UTC)
_HOURS: Final = tuple(_AT.replace(minute=0) + timedelta(hours=n) for n in (1, 2, 3))
_STATION: Final = "harbour"
_ESTIMATE: Final = Estimate(
    station=_STATION, window=Window(start=_AT - timedelta(minutes=1), end=_AT), revision=12, sides="both",
    pollutants={
        "pm25": PollutantEstimate(
            value=34.4, kind="imputed", qc=9, lo=22.0, hi=51.5, method="network", coverage=0.91,
            weights={"neighbours": 0.7, "own": 0.2, "past": 0.1},
        ),
        "no2": PollutantEstimate(value=41.1, kind="measured", qc=1, raw=41.1, n=6, sensors=("gas",)),
    },
    indices=(
        IndexBlock(
            standard="us-epa-2024", index=98, category="moderate", level=1, dominant=("pm25",),
            status="indicative", reason="PM2.5: 14 of 18 hours", imputed_share=0.4, lo=74, hi=139,
            subindices={"pm25": 98, "no2": 21},
        ),
    ),
    inputs=Inputs(readings=12), bundle="default-1",
)  # fmt: skip
_RECORD: Final = Station(
    station=_STATION, name="Harbour", city="Kathmandu", latitude=27.7, longitude=85.3,
    timezone="Asia/Kathmandu", sensors=(Sensor(sensor="pm-b", parameters=("pm25", "pm10")),),
)  # fmt: skip
_NOW: Final = brief(_ESTIMATE)
_FEATURE: Final = docs.StationFeature(
    id=_STATION,
    geometry=docs.PointGeometry(coordinates=(85.3, 27.7)),
    properties=docs.StationProperties(
        station=_STATION, name="Harbour", city="Kathmandu", kind="low-cost", timezone="Asia/Kathmandu",
        standards=("us-epa-2024",), sensors=1, parameters=("pm25", "pm10"), state="online", heard_at=_AT,
        stale_after_s=900,
    ),
)  # fmt: skip
_ALERT: Final = docs.AlertNow(
    id="harbour/us-aqi/2026-08-21T09:00:00Z", sequence=0, event="open", station=_STATION, rule="us-aqi",
    severity="moderate", at=_AT, since=_AT - timedelta(hours=1), opened=_AT - timedelta(hours=1),
    reason="us-epa-2024 index is 163", active=True,
)  # fmt: skip
_NOTE: Final = managing.Note(
    id="harbour/2026-08-21T10:00:00Z", station=_STATION, kind="note", sensor=None, parameter=None,
    since=_AT - timedelta(hours=2), until=_AT, text="barbecue next door", made_at=_AT,
)  # fmt: skip
_STANDARD: Final = docs.StandardShown(
    id="us-epa-2024",
    name="US EPA Air Quality Index",
    categories=(
        docs.CategoryShown(
            key="good", low=0, high=50, colour="#00e400", shade="#bfe8d9", ink="#000000",
            name={"en": "Good"}, advice={"en": "It is a great day to be active outside."},
        ),
    ),
)  # fmt: skip
#: Real ones have 72 hours, seven quantiles and all categories.
_FORECAST: Final = docs.ForecastFan(
    issued_at=_HOURS[0] - timedelta(hours=1), revision=1, model="default 1, mix", weather_issued_at=None,
    history_h=160, reasons={"pm25": "rising by 12.0 ug/m3: the wind to come +8.0; all else together +4.0"},
    moves={
        "pm25": docs.ForecastMove(hours=12, last=31.0, change=12.0, shares={"wind to come": 8.0}, rest=4.0)
    },
    at=_HOURS, levels=(0.05, 0.5, 0.95),
    pollutants={
        "pm25": docs.PollutantFan(
            mean=(34.0, 33.1, 30.2),
            quantiles=((20.1, 17.0, 12.9), (33.6, 32.0, 29.4), (52.8, 58.3, 63.0)),
            imputed_share=0.25,
        )
    },
    indices=(
        docs.IndexFan(
            standard="us-epa-2024", index=(96, 93, 87), lo=(69, 62, 57), hi=(143, 152, 155),
            categories=("Good", "Moderate"), probabilities=((0.02, 0.05, 0.1), (0.98, 0.95, 0.9)),
            membership=((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
        ),
    ),
)  # fmt: skip
_WORKERS: Final = (
    docs.WorkerHealth(role="fusion", up=True, lag_messages=3, lag_s=0.4, watermark=_AT),
    docs.WorkerHealth(role="sink", up=False, down_since=_AT),
)

_ALL: Final[tuple[BaseModel, ...]] = (
    _NOW, _FEATURE, _RECORD, _NOTE,
    docs.LatestPage(stations=(_NOW,), next="/api/v1/latest?after=harbour&limit=1"),
    docs.StationsPage(features=(_FEATURE,), next=None),
    docs.SeriesColumns(
        station=_STATION, what="pm25", unit="ug/m3", span_s=0, at=(_AT - timedelta(minutes=1), _AT),
        measured=(31.2, None), imputed=(None, 34.4), lo=(None, 22.0), hi=(None, 51.5), least=(31.2, 34.4),
        most=(31.2, 34.4), qc=(1, 9), shares={"1": (1.0, 0.0), "9": (0.0, 1.0)}, lengths_s=(0, 0),
    ),
    docs.ForecastAnswer(station=_STATION, forecast=_FORECAST),
    docs.Explained(
        estimate=_ESTIMATE.model_dump(mode="json"),
        why=tuple(one.text for one in sentences(_ESTIMATE)),
        told=sentences(_ESTIMATE),
    ),
    docs.ListeningAnswer(
        station=_STATION,
        sensors=(
            docs.SensorListening(pollutant="pm25", neighbours={"park": 0.7}, own=0.2, past=0.1),
        ),
    ),
    docs.AlertsPage(alerts=(_ALERT,), next=None),
    docs.AlertsExplained(
        station=_STATION,
        rules=(
            docs.RuleNow(rule="us-aqi", open=True, severity="moderate", text="us-epa-2024 index is 163"),
        ),
    ),
    docs.PendingList(
        pending=(docs.PendingNow(station=_STATION, rule="us-aqi", severity="moderate", at=_AT),)
    ),
    docs.NotablesList(
        notable=(
            docs.Notable(
                what="silent", station=_STATION, detail="pm-b", at=_AT,
                text="harbour: the sensor pm-b is silent: PM2.5 from its neighbours, by 70%",
            ),
        )
    ),
    docs.QualityPage(
        hours=6,
        stations=(
            docs.StationQuality(
                station=_STATION, windows=358, covered=0.994, measured=1200, imputed=590, missing=0,
                flags={"1": 1180, "3": 20}, refused={"pm25/pm-b": "it shows 4 times too much"},
                state="online", heard_at=_AT,
            ),
        ),
        next=None,
    ),
    docs.Health(
        status="degraded", problems=("the worker sink does not answer since 2026-08-21T10:01:00Z",),
        version="1.0.0", kafka="ok", kafka_since=None, newest=_AT, stations=6, streams=2, workers=_WORKERS,
        refused={"not_json": 1},
    ),
    docs.LettersPage(
        letters=(
            docs.ShownLetter(
                id="0-17", stage="fusion", code="not_json", reason="the message is not JSON", failed_at=_AT,
                partly_used=False, redriven_at=None,
            ),
        )
    ),
    docs.SiteDocument(
        title="skyfuse", version="1.0.0", standards=(_STANDARD,), tiles=None, tiles_credit="",
        open_scopes=("read",), pictures=True, ug_per_ppb={"no2": 1.8804},
    ),
    docs.PicturesList(
        station=_STATION,
        cameras=(
            docs.CameraPicture(
                camera="main", at=_AT, usable=True, image="/api/v1/pictures/harbour/main?at=1787306460000",
                heat=None, far_band=(0.3, 0.5, 0.0, 1.0),
            ),
        ),
    ),
    managing.RecordsPage(records=(_RECORD,), next=None),
    managing.WaitingList(
        waiting=(
            managing.WaitingStation(
                station="new-roof", readings=120, pictures=0, first=_AT - timedelta(hours=1), last=_AT,
                adapters=("sensor-community",), origins=("192.0.2.7",),
            ),
        )
    ),
    managing.Adopted(station="new-roof", published=120),
    managing.NotesList(station=_STATION, notes=(_NOTE,)),
    managing.NewNote(station=_STATION, since=_AT - timedelta(hours=2), until=_AT, text="barbecue next door"),
)  # fmt: skip

#: Examples by the name of their model.
EXAMPLES: Final[dict[str, Any]] = {type(one).__name__: one.model_dump(mode="json") for one in _ALL}

#: What the API answers that is no JSON.
CSV_EXAMPLE: Final = (
    "station,time,parameter,value,unit,kind,lo,hi,qc,span_s\n"
    "harbour,2026-08-21T10:01:00Z,pm25,34.400,ug/m3,imputed,22.000,51.500,9,0\n"
)
STREAM_EXAMPLE: Final = (
    'id: e17.0a3.1\nevent: alert\ndata: {"station":"harbour","rule":"us-aqi","event":"open"}\n\n'
    'event: pulse\ndata: {"now":"2026-08-21T10:01:00Z","kafka_away_since":null,"workers_away":[]}\n\n'
)
#: Of a refusal by its status: the code, and what is said.
PROBLEMS: Final = {
    400: ("bad_request", "the body is no JSON object with the fields of a station"),
    401: ("no_key", "this takes a key with the scope read: Authorization: Bearer KEY (skyfuse keys create)"),
    403: ("not_allowed", "the key wall has not the scope admin"),
    404: ("unknown_station", "nobody knows a station harbor: /api/v1/stations has them all"),
    409: ("known_station", "harbour has a record already, which an edit changes"),
    413: ("too_large", "the body has more than 262144 bytes"),
    415: ("not_json", "the body has to be application/json"),
    421: ("wrong_host", "this server does not go by that name (web.hosts)"),
    422: ("not_a_time", "since: 2026-08-21 is no time: RFC 3339 with a zone is due"),
    429: ("too_many", "too many requests of this address"),
    503: ("no_history", "there is no history yet: the sink has stored nothing"),
}
