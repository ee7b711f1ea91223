"""The API's alerts: those that are, why, and those on their way."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic_core import to_json

from alerting.explained import explain_worker
from alerting.stored import FORESEEN
from schemas.base import STATION_PATTERN, from_ms
from web import composing
from web.answers import document, send
from web.api.asked import StationQuery, answers, heard_of, in_thread, known, needs, time_of
from web.documents import AlertsExplained, AlertsPage, PendingList, PendingNow, RuleNow
from web.parts import Parts


def _place(after: str) -> tuple[datetime, str]:
    """Where in the list of alerts an `after` stands: its time and id. Raises RequestProblem."""
    at, _, id = after.partition(" ")
    return from_ms(time_of("after", at)), id


def add(api: APIRouter, parts: Parts) -> None:
    """Add the paths."""
    live = parts.live

    @api.get(
        "/alerts", responses=answers(AlertsPage, 404), dependencies=[needs(parts, "read")],
        summary="Alerts, the newest first",
    )  # fmt: skip
    async def alerts(
        request: Request,
        active: Annotated[bool | None, Query(description="only open ones, or those that are over")] = None,
        station: Annotated[str | None, Query(pattern=STATION_PATTERN)] = None,
        after: Annotated[
            str | None, Query(max_length=250, description="what comes after this one; `next` has it")
        ] = None,
        skip: Annotated[
            int,
            Query(ge=0, le=20_000, deprecated=True, description="so many: what opens shifts them"),
        ] = 0,
        limit: Annotated[int, Query(ge=1, le=500)] = 200,
    ) -> Response:
        heard_of(live, station)
        place = None if after is None else _place(after)
        packed = parts.ready.get(
            ("alerts", active, station, after, skip, limit),
            live.alerts_version,
            lambda: to_json(composing.alerts_page(live, active, station, place, skip, limit)),
        )
        return send(request, packed)

    @api.get(
        "/alerts/explain", responses=answers(AlertsExplained, 404), dependencies=[needs(parts, "read")],
        summary="Why each alert of a station is or is not open",
    )  # fmt: skip
    async def explain_alerts(request: Request, station: StationQuery) -> Response:
        known(live, station)
        found = {name: composing.alert_state(live, name) for name in (station, FORESEEN + station)}
        states = {name: state for name, state in found.items() if state is not None}
        explained = explain_worker(parts.rules(), states, list(live.alerts.values()), station)
        made = AlertsExplained(
            station=station,
            rules=tuple(
                RuleNow(rule=one.rule, open=one.open, severity=one.severity, text=one.text)
                for one in explained
            ),
        )
        return document(request, made)

    @api.get(
        "/alerts/pending", responses=answers(PendingList, 404),
        dependencies=[needs(parts, "read")],
        summary="Alerts that open, or rise, soon if what is seen now lasts",
    )  # fmt: skip
    async def pending_alerts(
        request: Request, station: Annotated[str | None, Query(pattern=STATION_PATTERN)] = None
    ) -> Response:
        heard_of(live, station)
        every = await in_thread(lambda: composing.on_their_way(parts))
        found = sorted(
            (one for one in every if station is None or one[0] == station), key=lambda pair: pair[1].at
        )
        made = PendingList(
            pending=tuple(
                PendingNow(station=station, rule=one.rule, severity=one.severity, at=from_ms(one.at))
                for station, one in found
            )
        )
        return document(request, made)
