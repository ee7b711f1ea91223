"""The API's past and future: a series to plot, a table to download, and what was foretold."""

import asyncio
from typing import Annotated, Final, Literal

from fastapi import APIRouter, Query, Request, Response

from schemas.base import format_time, from_ms
from schemas.parameters import Pollutant
from schemas.times import HOUR_MS
from web import composing
from web.answers import document
from web.api.asked import MomentQuery, StationQuery, answers, in_thread, known, needs, time_of
from web.documents import ForecastAnswer, SeriesColumns
from web.errors import RequestProblem
from web.examples import CSV_EXAMPLE
from web.parts import Parts
from web.table import AT_ONCE, Download, StationTable

DAY_MS: Final = 24 * HOUR_MS
#: The longest span of a series, and of a table of all windows.
LONGEST_MS: Final = 366 * DAY_MS
_LONGEST_CSV_MS: Final = 31 * DAY_MS
_Charted = Literal["index", Pollutant]


def add(api: APIRouter, parts: Parts) -> None:
    """Add the paths."""
    live = parts.live

    @api.get(
        "/series", responses=answers(SeriesColumns, 404, 503), dependencies=[needs(parts, "read")],
        summary="A pollutant or an index over time, as many points as a plot can show",
    )  # fmt: skip
    async def series(
        request: Request,
        station: StationQuery,
        what: _Charted = "index",
        standard: Annotated[str | None, Query(max_length=60, description="of the index")] = None,
        since: MomentQuery = None,
        until: MomentQuery = None,
        points: Annotated[int, Query(ge=10, le=2000, description="at most so many")] = 600,
    ) -> Response:
        known(live, station)
        start, end = span_of(parts, since, until, LONGEST_MS)
        if standard is not None and composing.standard_shown(standard) is None:
            raise RequestProblem(422, "unknown_standard", f"standard: nobody knows one called {standard!r}")
        made = await in_thread(lambda: composing.series(parts, station, what, standard, start, end, points))
        return document(request, made)

    @api.get(
        "/series.csv", responses=answers(None, 404, 503, media="text/csv", example=CSV_EXAMPLE),
        dependencies=[needs(parts, "read")],
        summary="All windows of a station, or what is left of them, a row for each value: to download",
        response_class=Response,
    )  # fmt: skip
    async def table(station: StationQuery, since: MomentQuery = None, until: MomentQuery = None) -> Response:
        known(live, station)
        start, end = span_of(parts, since, until, _LONGEST_CSV_MS)
        if parts.counter.tables >= AT_ONCE:
            raise RequestProblem(429, "too_many_tables", f"{AT_ONCE} tables are being downloaded already", 5)
        parts.counter.tables += 1
        reading = StationTable(parts.series.apart(), station, start, end)
        loop = asyncio.get_running_loop()

        def free(_: object) -> None:
            parts.counter.tables -= 1

        def ended() -> None:
            loop.run_in_executor(None, reading.close).add_done_callback(free)

        try:
            first = await in_thread(reading.more)  # before the answer begins: it may have to be a refusal
        except BaseException:
            ended()
            raise
        name = f"{station}-{format_time(from_ms(start))[:10]}.csv"
        headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
        return Download(reading, first, headers, ended)

    @api.get(
        "/forecast", responses=answers(ForecastAnswer, 404, 503), dependencies=[needs(parts, "read")],
        summary="The newest forecast of the next three days: quantiles, and the chance of each category",
    )  # fmt: skip
    async def forecast(request: Request, station: StationQuery) -> Response:
        known(live, station)
        found = await in_thread(lambda: parts.store.forecast(station))
        return document(request, composing.forecast(station, found, int(parts.now() * 1000)))


def span_of(parts: Parts, since: str | None, until: str | None, longest: int) -> tuple[int, int]:
    end = int(parts.now() * 1000) + 60_000 if until is None else time_of("until", until)
    start = end - DAY_MS if since is None else time_of("since", since)
    if not start < end:
        raise RequestProblem(422, "no_span", "since has to be earlier than until")
    if end - start > longest:
        raise RequestProblem(
            422, "too_long", f"since to until is more than {longest // DAY_MS} days: ask for parts"
        )
    return start, end
