"""Forecasts of the store, for people and for programs."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from rich.markup import escape
from rich.table import Table

from cli.errors import QueryError
from cli.shared.wording import counted
from forecast.telling import amount
from schemas.base import format_time, from_ms, to_ms
from schemas.forecast import FORECAST_LEVELS, Forecast
from schemas.parameters import LABELS, POLLUTANTS
from schemas.times import HOUR_MS
from sinks.store import Store
from web.why import sentences

#: Hours ahead that a table shows.
_SHOWN: Final = (1, 2, 3, 6, 9, 12, 18, 24, 36, 48, 60, 72)
_MEDIAN: Final = FORECAST_LEVELS.index(0.5)
#: Fewer measured hours than these of the last week are said.
_YOUNG: Final = 24


def forecast_json(forecasts: Sequence[Forecast]) -> bytes:
    """A JSON array of whole forecasts, one per line."""
    return b"[" + b",\n".join(one.model_dump_json().encode() for one in forecasts) + b"]\n"


def words(forecast: Forecast) -> Iterator[str]:
    """What moves each pollutant that makes the index, and on how little it stands."""
    for name, reason in forecast.reasons.items():
        yield (
            f"{LABELS[name]} in {reason.hours} h: a mean of {amount(reason.mean)} ug/m3 after"
            f" {amount(reason.last)}, {reason.words}."
        )
    if forecast.reasons:
        yield "Means are the model's, before the station corrects it; --forecast has medians, corrected."
    if forecast.history_h is not None and forecast.history_h < _YOUNG:
        hours = counted(forecast.history_h, "measured hour")
        yield f"It stands on {hours} of the last week, and is wide for it."


def reasons(station: str | None, path: Path) -> bytes:
    """Of a station of the store at `path`, or of all: what its newest window rests on, and what moves its
    forecast. Raises QueryError where there is neither.
    """
    with Store(path, read_only=True) as store:
        wanted = [name for name in store.known_stations() if station in (None, name)]
        newest = {name: store.read(name, limit=1) for name in wanted}
        forecasts = {one.station: one for one in store.forecasts(station)}
    lines = []
    for name, windows in newest.items():
        for estimate in windows:
            lines += [f"{name}, window to {format_time(estimate.window.end)}"]
            lines += [f"  {sentence.text}" for sentence in sentences(estimate)]
        if (made := forecasts.get(name)) is not None:
            lines += [f"{name}, forecast of {format_time(made.issued_at)}", *map("  {}".format, words(made))]
    if not lines:
        of = "" if station is None else f" of station {station}"
        raise QueryError(f"the store has no window{of}: `skyfuse query` names the stations that it has")
    return ("\n".join(lines) + "\n").encode()


def forecast_tables(forecast: Forecast) -> Iterator[Table]:
    """One station's, from the widest to the narrowest: ends of the interval go, then pollutants."""
    for shown in (
        (True, POLLUTANTS), (False, POLLUTANTS),
        *((False, POLLUTANTS[:count]) for count in range(len(POLLUTANTS), 0, -1)),
    ):  # fmt: skip
        yield _table(forecast, *shown)


def _middle(chances: Sequence[float]) -> int:
    """The category in the middle of what may come, which the median of the index lies in. The likeliest one
    may be at either end, where none is likely.
    """
    return min(int(np.searchsorted(np.cumsum(chances), 0.5)), len(chances) - 1)


def _table(forecast: Forecast, intervals: bool, pollutants: Sequence[str]) -> Table:
    table = Table(box=None, header_style="bold", caption_justify="left", pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("hour that ends", no_wrap=True)
    index = next(iter(forecast.indices), None)
    if index is not None:
        table.add_column("AQI", no_wrap=True)
        table.add_column("category", no_wrap=True)
    there = [name for name in pollutants if name in forecast.pollutants]
    for name in there:
        table.add_column(LABELS[name], justify="right", no_wrap=True)
    # A column has the digits of its largest median: tenths of 17, none of 765.
    largest = {name: max(forecast.pollutants[name].quantiles[_MEDIAN]) for name in there}
    digits = {name: 0 if value >= 99.95 else 1 for name, value in largest.items()}
    issued = to_ms(forecast.issued_at)
    for ahead in _SHOWN:
        hour = ahead - 1
        cells = [f"{from_ms(issued + ahead * HOUR_MS):%Y-%m-%d %H:%M}Z"]
        if index is not None:
            value, low, high = index.index[hour], index.lo[hour], index.hi[hour]
            cells.append("-" if value is None else f"{value} [{low}, {high}]" if intervals else str(value))
            lesser = sorted(index.degrees(hour).items(), key=lambda pair: pair[1])[:-1]
            if intervals:
                cells[-1] += "".join(f", to {degree:.2f} {name}" for name, degree in lesser)
            chances = [row[hour] for row in index.probabilities]
            middle = _middle(chances)
            worse, chance = (" or worse", sum(chances[middle:])) if middle else ("", chances[0])
            cells.append(f"{index.categories[middle]}{worse} {100 * chance:.0f} %")
        for name in there:
            said = forecast.pollutants[name]
            levels = [level[hour] for level in said.quantiles]
            lower, median, upper = (f"{levels[of]:.{digits[name]}f}" for of in (0, _MEDIAN, -1))
            median = f"{'~' if said.imputed_share == 1 else ''}{median}"
            cells.append(f"{median} [{lower}, {upper}]" if intervals else median)
        table.add_row(*cells)
    told = "with the weather to come" if forecast.weather_issued_at else "without the weather to come"
    standard = "" if index is None else f"; index: {index.standard}, as if the hour lasted"
    unmeasured = any(forecast.pollutants[name].imputed_share == 1 for name in there)
    guessed = "; ~ of what was not measured there for a day" if unmeasured else ""
    table.caption = (
        f"ug/m3, medians{', with 90 % intervals' if intervals else ''}{guessed}; made"
        f" {format_time(forecast.issued_at)} {told}{standard}"
    )
    if forecast.history_h is not None and forecast.history_h < _YOUNG:
        table.caption += f"; it stands on {counted(forecast.history_h, 'measured hour')} of the last week"
    # Of the pollutants that make the index one is enough here: `query --why` has them all.
    for name, reason in list(forecast.reasons.items())[:1]:
        table.caption += f"\nthe model's mean of {LABELS[name]} in {reason.hours} h: {escape(reason.words)}"
    table.title, table.title_justify = escape(forecast.station), "left"
    return table
