"""What to look at now: nobody should have to find it out. Pure."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Final, Literal

from alerting.explained import PendingAlert
from schemas.alert import SEVERITIES, Alert
from schemas.base import format_time, from_ms, to_ms
from schemas.estimate import Estimate
from schemas.parameters import LABELS, POLLUTANTS, Pollutant
from schemas.station import Station
from schemas.times import MINUTE_MS
from web.brief import left_out, sources
from web.documents import Notable, NotablesList, Sentence
from web.why import main_carrier, mainly, of_alert, said

_NotableKind = Literal["lying", "drift", "silent", "camera_only", "pending", "alert", "stale"]
#: Of each kind, so many are told; of the others, how many there are.
_EACH: Final = 3
#: A sensor is silent when nothing came of it for so long (ms), and for so many of its declared periods.
_SILENT_MS: Final = 10 * MINUTE_MS
_SILENT_PERIODS: Final = 3
#: Characters of a reason that fit on a line.
_REASON: Final = 160


def notable(
    latest: Mapping[str, Estimate],
    stations: Mapping[str, Station],
    alerts: Mapping[str, Alert],
    pending: Sequence[tuple[str, PendingAlert]],
    stale: Callable[[str], bool],
    measured: Callable[[str, str], int],
    *,
    coming: bool = False,
) -> list[Notable]:
    """Sensors that lie, drift or are silent, stations of a camera alone, alerts and those about to open.

    All there are, kind by kind: `most_telling` says which of them are told.

    Args:
        latest: each station's newest window.
        stations: the records there are.
        alerts: the newest event of each.
        pending: by station, alerts on their way.
        stale: whether a station's newest window is no news any more.
        measured: end (ms) of the newest window in which a pollutant was measured at a station, or of the
            first one that is known.
        coming: whether what there is of the past is being worked off: then old windows are no fault.
    """
    fresh = {name: one for name, one in latest.items() if not stale(name)}
    found: list[Notable] = []
    if latest and not fresh:  # all are behind: the pipeline is; what stood out then is told after that
        if not coming:
            found.append(_all_behind(latest))
        fresh = dict(latest)
    found += _active(alerts, fresh)
    found += [
        _of(
            "pending", station, one.rule, from_ms(one.at),
            said(
                "pending", f"the alert {one.rule} ({one.severity}) opens soon, if what is seen now lasts",
                rule=one.rule, severity=one.severity,
            ),
        )
        for station, one in sorted(pending, key=lambda pair: pair[1].at)
    ]  # fmt: skip
    lying, drifting, silent, alone = [], [], [], []
    for name, estimate in sorted(fresh.items()):
        record = stations.get(name)
        lying += _lying(estimate)[:1]
        drifting += _drifting(estimate)[:1]
        if record is not None and record.sensors:
            silent += _silent(estimate, record, measured)[:1]
        elif record is not None and record.cameras and estimate.sides == "image":
            told = _of_a_camera(estimate)
            text = f"{name} has a camera alone: {told.text}"
            alone.append(Notable(what="camera_only", station=name, text=text, told=told))
    found += lying + drifting + silent + alone
    old = sorted(name for name in latest if name not in fresh)
    found += [
        _of("stale", name, "", latest[name].window.end, said("stale", "nothing new; what is shown is old"))
        for name in old
        if not coming
    ]
    return found


def most_telling(found: Sequence[Notable], *, coming: bool = False) -> NotablesList:
    """Those that are told, the most telling first, and how many more there are of each kind.

    Open alerts before all else; then one of each kind, since what differs tells more than three of the same,
    and what only informs last among them.
    """
    nth: Counter[str] = Counter()
    placed = []
    for one in found:
        if nth[one.what] < _EACH:
            behind = one.told is not None and one.told.values.get("severity") == "info"
            turn = -1 if one.what == "alert" or _is_all_behind(one) else nth[one.what]
            placed.append(((turn, behind), one))
        nth[one.what] += 1
    placed.sort(key=lambda pair: pair[0])
    more = {what: count - _EACH for what, count in nth.items() if count > _EACH}
    return NotablesList(notable=tuple(one for _, one in placed), more=more, coming=coming)


def _is_all_behind(one: Notable) -> bool:
    return one.told is not None and one.told.code == "all_stale"


def _of(what: _NotableKind, station: str, detail: str, at: datetime | None, told: Sentence) -> Notable:
    return Notable(
        what=what, station=station, detail=detail, at=at, text=f"{station}: {told.text}", told=told
    )


def _all_behind(latest: Mapping[str, Estimate]) -> Notable:
    newest = max(latest.values(), key=lambda one: (one.window.end, one.station))
    text = (
        f"no station has anything new: the newest window there is, {newest.station}'s,"
        f" ended at {format_time(newest.window.end)}"
    )
    told = said("all_stale", text, station=newest.station)
    return Notable(what="stale", station=newest.station, at=newest.window.end, text=text, told=told)


def _of_a_camera(estimate: Estimate) -> Sentence:
    """Where what a station without sensors tells comes from: not always from its pictures."""
    carry = sources(estimate)
    pictures, neighbours = "camera" in carry, "neighbours" in carry
    if not neighbours:
        return said("by_pictures", "all it tells comes from its pictures")
    if pictures:
        return said("by_both", "what it tells comes from its pictures and from its neighbours")
    return said("by_neighbours", "its values come from its neighbours alone")


def _active(alerts: Mapping[str, Alert], fresh: Mapping[str, Estimate]) -> list[Notable]:
    open_ones = [one for one in alerts.values() if one.event in ("open", "update")]
    open_ones.sort(
        key=lambda one: (
            -SEVERITIES.index(one.severity), one.station not in fresh, -to_ms(one.since), one.id,
        )
    )  # fmt: skip
    return [
        _of("alert", one.station, one.rule, one.since, _why_open(one))
        for one in open_ones
        if one.severity != "info"
    ]


def _why_open(alert: Alert) -> Sentence:
    why, told = alert.reason[:_REASON], of_alert(alert.reason)
    text = f"{alert.severity} alert {alert.rule}: {why}"
    values = {"severity": alert.severity, "rule": alert.rule}
    if told is None:
        return said("alert", text, **values, why=why)
    return Sentence(code="alert_told", text=text, values=values, parts=(told,))


def _lying(estimate: Estimate) -> list[Notable]:
    return [
        _of(
            "lying", estimate.station, sensor, None,
            said(
                "lying", f"{LABELS[name]} of {sensor} is left out: {why[:_REASON]}",
                pollutant=name, sensor=sensor, why=why[:_REASON],
            ),
        )
        for name, sensor, why in left_out(estimate)
    ]  # fmt: skip


def _drifting(estimate: Estimate) -> list[Notable]:
    return [
        _of("drift", estimate.station, name, one.since, said("drift", text, why=text))
        for name, one in (estimate.drift or {}).items()
        for text in [one.reason[:_REASON]]
    ]


def _silent(estimate: Estimate, record: Station, measured: Callable[[str, str], int]) -> list[Notable]:
    """Sensors of which nothing came for long, although their record says that they measure."""
    found = []
    end = to_ms(estimate.window.end)
    for sensor in record.sensors:
        theirs = [name for name in POLLUTANTS if name in sensor.parameters]
        missed = [
            name
            for name in theirs
            if (one := estimate.pollutants.get(name)) is not None
            and one.kind == "imputed"
            and not one.refused
        ]
        if not theirs or missed != theirs:
            continue
        last = max(measured(estimate.station, name) for name in missed)
        if end - last < max(_SILENT_MS, _SILENT_PERIODS * 1000 * (sensor.period or 0)):
            continue
        by: dict[str, list[Pollutant]] = {}
        for name in missed:
            by.setdefault(mainly(estimate.pollutants[name]), []).append(name)
        parts = tuple(
            said(
                "from", f"{', '.join(LABELS[name] for name in names)} from {who}", pollutants=names,
                **main_carrier(estimate.pollutants[names[0]]),
            )
            for who, names in by.items()
        )  # fmt: skip
        text = f"the sensor {sensor.sensor} is silent: {'; '.join(part.text for part in parts)}"
        told = Sentence(code="silent", text=text, values={"sensor": sensor.sensor}, parts=parts)
        found.append(_of("silent", estimate.station, sensor.sensor, from_ms(last), told))
    return found
