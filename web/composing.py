"""The API's answers, made from what is known now and from the store."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlencode

from pydantic_core import to_json

from alerting.explained import PendingAlert, pending
from alerting.station import StationAlerts
from alerting.stored import read as read_alerts
from aqi.standards import load
from aqi.units import micrograms_per_ppb
from fleet.condition import condition, stale_after_s
from forecast.telling import telling
from network.listening import Listening
from schemas.base import format_time, from_ms, to_ms
from schemas.errors import SkyfuseError, StateError
from schemas.forecast import FORECAST_HOURS, FORECAST_LEVELS, Forecast, ForecastReason
from schemas.parameters import GASES, POLLUTANTS, Pollutant
from schemas.times import HOUR_MS
from streams.version import version
from web.brief import measures, refusals
from web.documents import (
    AlertsPage,
    CameraPicture,
    CategoryShown,
    ForecastAnswer,
    ForecastFan,
    ForecastMove,
    Health,
    IndexFan,
    ListeningAnswer,
    NotablesList,
    PicturesList,
    PointGeometry,
    PollutantFan,
    QualityPage,
    SensorListening,
    SeriesColumns,
    SiteDocument,
    StandardShown,
    StationFeature,
    StationProperties,
    StationQuality,
    StationsPage,
)
from web.live import LiveState, is_active, shown
from web.managing import RecordsPage
from web.notable import most_telling, notable
from web.parts import A_WHILE_S, Parts
from web.thinning import thin

PREFIX: Final = "/api/v1"
#: From light to dark, so that they differ without colour too; each beside its ink has a contrast over 4.5.
SHADES: Final = ("#bfe8d9", "#f3d55b", "#ee9a3a", "#bf3a2b", "#8a2a6b", "#4a1030", "#26081a")
_DARK_INK_UNTIL: Final = 3
#: What takes a while to work out is kept for so long.
SECONDS_KEPT: Final = 5


def page_of(ids: Sequence[str], after: str | None, limit: int) -> tuple[list[str], bool]:
    """The ids of one page, in order, and whether there are more."""
    ordered = sorted(one for one in ids if after is None or one > after)
    return ordered[:limit], len(ordered) > limit


def link(path: str, **query: object) -> str:
    return f"{PREFIX}{path}?{urlencode({name: value for name, value in query.items() if value is not None})}"


def latest_page(live: LiveState, after: str | None, limit: int) -> bytes:
    ids, more = page_of(list(live.latest), after, limit)
    bodies = b",".join(live.latest[one].body for one in ids)
    following = to_json(link("/latest", after=ids[-1], limit=limit) if more else None)
    return b'{"stations":[' + bodies + b'],"next":' + following + b"}"


def feature(parts: Parts, station: str) -> StationFeature:
    live = parts.live
    record, health, current = live.stations.get(station), live.health.get(station), live.latest.get(station)
    window_s = 60
    if current is not None:
        window = current.estimate.window
        window_s = round((window.end - window.start).total_seconds())
    placed = record is not None and record.latitude is not None and record.longitude is not None
    return StationFeature(
        id=station,
        geometry=PointGeometry(coordinates=(record.longitude or 0.0, record.latitude or 0.0))
        if placed and record is not None
        else None,
        properties=StationProperties(
            station=station,
            stale_after_s=stale_after_s(0.0 if health is None else health.wait_s, window_s),
            state=None if health is None else condition(health, int(parts.now() * 1000)).state,
            heard_at=None if health is None else health.heard_at,
            **(
                {}
                if record is None
                else {
                    "name": record.name,
                    "city": record.city,
                    "kind": record.kind,
                    "timezone": record.timezone,
                    "standards": record.standards,
                    "cameras": len(record.cameras),
                    "sensors": len(record.sensors),
                    "parameters": measures(record),
                }
            ),
        ),
    )


def stations_page(parts: Parts, after: str | None, limit: int) -> StationsPage:
    ids, more = page_of([*{*parts.live.stations, *parts.live.latest}], after, limit)
    return StationsPage(
        features=tuple(feature(parts, one) for one in ids),
        next=link("/stations", after=ids[-1], limit=limit) if more else None,
    )


def records_page(live: LiveState, after: str | None, limit: int) -> RecordsPage:
    ids, more = page_of(list(live.stations), after, limit)
    return RecordsPage(
        records=tuple(live.stations[one] for one in ids),
        next=link("/records", after=ids[-1], limit=limit) if more else None,
    )


def site(parts: Parts, ids: Sequence[str]) -> SiteDocument:
    settings = parts.settings
    return SiteDocument(
        title=settings.title,
        version=version(),
        standards=tuple(one for id in ids if (one := standard_shown(id)) is not None),
        tiles=settings.tiles,
        tiles_credit=settings.tiles_credit,
        open_scopes=settings.anonymous,
        pictures=settings.pictures,
        ug_per_ppb={gas: round(micrograms_per_ppb(gas, 25.0), 4) for gas in sorted(GASES)},
    )


def standard_shown(id: str) -> StandardShown | None:
    try:
        standard = load(id)
    except SkyfuseError:
        return None
    count = len(standard.categories)
    return StandardShown(
        id=standard.id,
        name=standard.name,
        categories=tuple(
            CategoryShown(
                key=one.key, low=one.low, high=one.high, colour=one.colour, shade=shade(place, count),
                ink="#000000" if SHADES.index(shade(place, count)) < _DARK_INK_UNTIL else "#ffffff",
                name=dict(one.names), advice=dict(one.advices),
            )
            for place, one in enumerate(standard.categories)
        ),
    )  # fmt: skip


def shade(level: int, count: int) -> str:
    """The shade of a category's rank among so many: the first is the lightest, the last dark."""
    last = max(5, min(count, len(SHADES)) - 1)
    return SHADES[min(level if count > 5 else round(level * last / max(1, count - 1)), len(SHADES) - 1)]


def series(
    parts: Parts, station: str, what: str, standard: str | None, since: int, until: int, most: int
) -> SeriesColumns:
    if what == "index":
        if standard is None:
            current = parts.live.latest.get(station)
            record = parts.live.stations.get(station)
            if current is not None and current.estimate.indices:
                standard = current.estimate.indices[0].standard
            else:
                standard = record.standards[0] if record is not None else "us-epa-2024"
        found = parts.series.indices(station, standard, since, until)
        unit = "points"
    else:
        pollutant: Pollutant = next(one for one in POLLUTANTS if one == what)
        found = parts.series.concentrations(station, pollutant, since, until)
        standard, unit = None, "ug/m3"
    span, spans = thin(found, most)
    columns = list(zip(*spans, strict=True)) if spans else [()] * 11
    graded = sorted({grade for shares in columns[9] for grade in shares})

    def rounded(values: Sequence[float | None]) -> tuple[float | None, ...]:
        return tuple(None if value is None else round(value, 2) for value in values)

    return SeriesColumns(
        station=station, what=what, unit=unit, standard=standard, span_s=span // 1000,
        at=tuple(from_ms(at) for at in columns[0]), measured=rounded(columns[1]), partly=rounded(columns[2]),
        imputed=rounded(columns[3]), lo=rounded(columns[4]), hi=rounded(columns[5]),
        least=rounded(columns[6]),
        most=rounded(columns[7]), qc=tuple(columns[8]),
        shares={str(one): tuple(round(shares.get(one, 0.0), 3) for shares in columns[9]) for one in graded},
        lengths_s=tuple(length // 1000 for length in columns[10]),
    )  # fmt: skip


def forecast(station: str, made: Forecast | None, now: int) -> ForecastAnswer:
    """What is still to come of a forecast."""
    if made is None or to_ms(made.issued_at) + FORECAST_HOURS * HOUR_MS <= now:
        return ForecastAnswer(station=station, forecast=None)
    issued = to_ms(made.issued_at)
    shown = ForecastFan(
        issued_at=made.issued_at, revision=made.revision, model=made.model,
        weather_issued_at=made.weather_issued_at, history_h=made.history_h,
        reasons={name: one.words for name, one in made.reasons.items()},
        moves={name: _move(one) for name, one in made.reasons.items()},
        at=tuple(from_ms(issued + hour * HOUR_MS) for hour in range(1, FORECAST_HOURS + 1)),
        levels=FORECAST_LEVELS,
        pollutants={
            name: PollutantFan(
                mean=_tenths(one.mean), quantiles=tuple(map(_tenths, one.quantiles)),
                imputed_share=one.imputed_share,
            )
            for name, one in made.pollutants.items()
        },
        indices=tuple(
            IndexFan(
                standard=one.standard, index=one.index, lo=one.lo, hi=one.hi, categories=one.categories,
                probabilities=tuple(tuple(round(p, 3) for p in row) for row in one.probabilities),
                membership=one.membership,
            )
            for one in made.indices
        ),
    )  # fmt: skip
    return ForecastAnswer(station=station, forecast=shown)


def _move(reason: ForecastReason) -> ForecastMove:
    """What moves a forecast most; what is left of the change is said to be the rest."""
    told = telling(reason.last, reason.mean, reason.shares, reason.usual, reason.unshared)
    change = round(told.change, 1)
    shares = {name: round(by, 1) for name, by in (*told.along, *told.against) if abs(by) >= 0.05}
    return ForecastMove(
        hours=reason.hours, last=round(reason.last, 1), change=change, shares=shares,
        rest=round(change - sum(shares.values()), 1),
    )  # fmt: skip


def _tenths(hours: Sequence[float]) -> tuple[float, ...]:
    return tuple(round(value, 1) for value in hours)


def alerts_page(
    live: LiveState, active: bool | None, station: str | None, after: tuple[datetime, str] | None, skip: int,
    limit: int,
) -> AlertsPage:  # fmt: skip
    """The newest first; those that come after the time and the id of `after`, `skip` of them passed over."""
    found = [
        one
        for one in live.alerts.values()
        if (active is None or is_active(one) == active)
        and (station is None or one.station == station)
        and (after is None or (one.at, one.id) < after)
    ]
    found.sort(key=lambda one: (one.at, one.id), reverse=True)
    told = found[skip : skip + limit]
    following = None
    if len(found) > skip + limit:
        last = f"{format_time(told[-1].at)} {told[-1].id}"
        following = link("/alerts", active=active, station=station, after=last, limit=limit)
    return AlertsPage(alerts=tuple(shown(one) for one in told), next=following)


def alert_state(live: LiveState, name: str) -> StationAlerts | None:
    """The alert worker's newest readable checkpoint under a name: a station, or `FORESEEN` and a station."""
    for _, data in sorted(live.alert_states.get(name, {}).values(), reverse=True):
        try:
            return read_alerts(name, data)
        except StateError:
            continue
    return None


def on_their_way(parts: Parts) -> list[tuple[str, PendingAlert]]:
    """Alerts that open, or rise, soon, by station. A thread's work with many stations; kept for a while."""
    memo, version = parts.pending, (int(parts.now() // SECONDS_KEPT), parts.live.alert_states_version)
    if memo.version is None or (memo.version[0] != version[0] and memo.version != version):
        found = []
        for name in list(parts.live.alert_states):
            state = alert_state(parts.live, name)
            if state is not None:
                found += [(state.station, one) for one in pending(parts.rules(), state)]
        memo.version, memo.found = version, found
    return memo.found


def whom_it_hears(station: str, found: Sequence[Listening]) -> ListeningAnswer:
    return ListeningAnswer(
        station=station,
        sensors=tuple(
            SensorListening(
                pollutant=one.variable.pollutant,
                neighbours={
                    name: round(share, 3) for name, share in one.neighbours.items() if share >= 0.005
                },
                own=round(one.own, 3),
                past=round(one.past, 3),
            )
            for one in found
        ),
    )


def to_look_at(parts: Parts) -> NotablesList:
    now = int(parts.now() * 1000)

    def stale(station: str) -> bool:
        current = parts.live.latest.get(station)
        age = now if current is None else now - current.end_ms
        return age > 1000 * feature(parts, station).properties.stale_after_s

    def measured(station: str, pollutant: str) -> int:
        return parts.live.measured.get(station, {}).get(pollutant, parts.live.first.get(station, 0))

    # Copies: it is made in a thread, while more comes in.
    latest = {name: one.estimate for name, one in dict(parts.live.latest).items()}
    records, alerts = dict(parts.live.stations), dict(parts.live.alerts)
    coming = parts.coming
    found = notable(latest, records, alerts, on_their_way(parts), stale, measured, coming=coming)
    return most_telling(found, coming=coming)


def quality_page(parts: Parts, hours: int, after: str | None, limit: int) -> QualityPage:
    live, now = parts.live, int(parts.now() * 1000)
    ids, more = page_of(list(live.latest), after, limit)
    since = now - hours * HOUR_MS
    counts = parts.series.flags(ids, since)
    found = []
    for station in ids:
        count, health, current = counts[station], live.health.get(station), live.latest.get(station)
        fares = None if health is None else condition(health, now)
        window = 60_000
        if current is not None:
            estimate = current.estimate
            window = to_ms(estimate.window.end) - to_ms(estimate.window.start)
        begin = max(since, (count.first or now) - window)
        length = max(1, now - begin)
        found.append(
            StationQuality(
                station=station,
                windows=count.windows,
                covered=round(min(1.0, count.windows * window / length), 3) if count.windows else None,
                measured=sum(count.measured.values()),
                imputed=count.imputed,
                missing=count.missing,
                flags={str(flag): number for flag, number in sorted(count.measured.items())},
                refused={} if current is None else refusals(current.estimate),
                state=None if fares is None else fares.state,
                troubles=() if fares is None else fares.troubles,
                clock_offset_s=None if health is None else health.clock_offset_s,
                battery_percent=None if health is None else health.battery_percent,
                heard_at=None if health is None else health.heard_at,
            )
        )
    return QualityPage(
        hours=hours,
        stations=tuple(found),
        next=link("/quality", hours=hours, after=ids[-1], limit=limit) if more else None,
    )


def pictures(parts: Parts, station: str) -> PicturesList:
    """A station's cameras with a picture of the last hours. May read the model bundle: a thread's work."""
    kept = {} if parts.pictures is None else parts.pictures.of(station)
    record, current = parts.live.stations.get(station), parts.live.latest.get(station)
    bands = {} if record is None else {one.camera: one.far_band for one in record.cameras}
    uses = () if current is None else current.estimate.inputs.frames
    found = []
    for camera, one in sorted(kept.items()):
        band = bands.get(camera)
        use = next((each for each in reversed(uses) if each.camera == camera), None)
        address = f"{PREFIX}/pictures/{station}/{camera}"
        found.append(
            CameraPicture(
                camera=camera,
                at=from_ms(one.at_ms),
                usable=None if use is None else use.usable,
                reasons=() if use is None else use.reasons,
                image=f"{address}?at={one.at_ms}",
                heat=f"{address}/heat?at={one.at_ms}"
                if parts.pictures is not None and parts.pictures.explains and current is not None
                else None,
                far_band=None if band is None else (band.top, band.bottom, band.left, band.right),
            )
        )
    return PicturesList(station=station, cameras=tuple(found))


def health(parts: Parts) -> Health:
    away, newest = parts.follower.away_since, parts.live.newest()
    problems = []
    if away is not None:
        problems.append("Kafka does not answer: nothing new comes")
    elif not parts.follower.read.is_set():
        problems.append("the topics are being read: what is shown may be old")
    for worker in parts.workers.health:
        if not worker.up:
            since = "" if worker.down_since is None else f" since {format_time(worker.down_since)}"
            problems.append(f"the worker {worker.role} does not answer{since}")
        elif worker.waits_for is not None:
            problems.append(f"the worker {worker.role} waits for {worker.waits_for}")
        elif worker.behind_since is not None:
            problems.append(
                f"the worker {worker.role} is {worker.lag_s:.0f} s behind, {worker.lag_messages} records,"
                f" since {format_time(worker.behind_since)}"
            )
    if parts.coming:
        problems.append("what is shown is of a while ago: the past is being worked off")
    elif away is None and newest is not None and parts.now() - newest / 1000 > A_WHILE_S:
        problems.append(
            f"nothing new comes: the newest window of all ended at {format_time(from_ms(newest))}"
        )
    return Health(
        status="degraded" if problems else "ok",
        problems=tuple(problems),
        version=version(),
        kafka="ok" if away is None else "away",
        kafka_since=None if away is None else datetime.fromtimestamp(away, UTC),
        newest=None if newest is None else from_ms(newest),
        stations=len(parts.live.latest),
        streams=parts.counter.open,
        workers=parts.workers.health,
        refused=dict(parts.live.refused),
    )
