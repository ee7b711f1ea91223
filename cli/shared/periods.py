"""Hours and days in `skyfuse query`: what stands for windows that the store keeps no more.

A value of an hour is a mean; where any of it was imputed, it is marked as imputed, and its share is given.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from cli.shared.wording import counted
from schemas.base import format_time, from_ms
from schemas.parameters import POLLUTANTS, Pollutant
from sinks.retention import Left
from sinks.tally import IndexTally, PollutantTally

_WORDS: Final = {"hourly": "hour", "daily": "day"}


def period_row(left: Left) -> dict[str, Any]:
    """An hour or a day as a row of query.SCHEMA, its leading index only; None where there is no value."""
    period, tally, missed = left
    index = tally.indices.get(tally.lead)
    cells: dict[str, Any] = {
        "station": period.station,
        "start": from_ms(period.start),
        "end": from_ms(period.stop),
        "revision": tally.revision,
        "standard": tally.lead or None,
        "aqi": None if index is None or index.mean is None else round(index.mean),
        "imputed_share": index and index.imputed_share,
        "period": _WORDS[period.kind],
        "windows": tally.windows,
        "missed": missed,
        "aqi_min": index and index.least,
        "aqi_max": index and index.greatest,
    }
    for parameter in POLLUTANTS:
        found = tally.pollutants.get(parameter)
        if found is not None:
            cells |= {
                parameter: found.mean,
                f"{parameter}_kind": _kind(found),
                f"{parameter}_min": found.least,
                f"{parameter}_max": found.greatest,
                f"{parameter}_imputed_share": found.imputed_share,
            }
    return cells


def period_json(left: Left) -> str:
    """An hour or a day as a JSON object with all pollutants and all standards."""
    period, tally, missed = left
    return json.dumps(
        {
            "station": period.station,
            "period": _WORDS[period.kind],
            "start": format_time(from_ms(period.start)),
            "end": format_time(from_ms(period.stop)),
            "windows": tally.windows,
            "revision": tally.revision,
            "missed": missed,
            "pollutants": {name: _pollutant(one) for name, one in sorted(tally.pollutants.items())},
            "indices": [_index(name, one, name == tally.lead) for name, one in sorted(tally.indices.items())],
        }
    )


def _pollutant(one: PollutantTally) -> dict[str, Any]:
    return {
        "mean": one.mean, "min": one.least, "max": one.greatest, "kind": _kind(one),
        "measured": one.measured, "corrected": one.corrected, "imputed": one.imputed,
        "imputed_share": one.imputed_share, "covered_s": one.ms / 1000,
    }  # fmt: skip


def _index(standard: str, one: IndexTally, leads: bool) -> dict[str, Any]:
    return {
        "standard": standard, "leading": leads, "mean": one.mean, "min": one.least, "max": one.greatest,
        "last": one.last, "windows": one.windows, "valid": one.valid, "imputed_share": one.imputed_share,
    }  # fmt: skip


def _kind(one: PollutantTally) -> str:
    """The least that can be said of all its windows."""
    return "imputed" if one.imputed else "corrected" if one.corrected else "measured"


def _cell(one: PollutantTally | None) -> Text:
    if one is None or one.mean is None:
        return Text("-", style="dim")
    if one.imputed:
        return Text(f"~{one.mean:.1f}", style="italic cyan")
    return Text(f"{one.mean:.1f}{'*' if one.corrected else ''}")


def period_tables(left: Sequence[Left], names: Mapping[str, str], *, with_station: bool) -> Iterator[Table]:
    """Hours and days for a person, from the widest table to the narrowest; `names` of the pollutants."""
    shown: list[Pollutant] = list(POLLUTANTS)
    yield _table(left, names, shown, with_station, spread=True)
    while len(shown) > 1:
        yield _table(left, names, shown, with_station, spread=False)
        # First those of which there is least here, then the last ones.
        count = [sum(name in one.tally.pollutants for one in left) for name in shown]
        shown.pop(max(range(len(shown)), key=lambda at: (-count[at], at)))
    yield _table(left, names, shown, with_station, spread=False)


def _table(
    left: Sequence[Left],
    names: Mapping[str, str],
    shown: Sequence[Pollutant],
    with_station: bool,
    *,
    spread: bool,
) -> Table:
    table = Table(box=None, header_style="bold", caption_justify="left", pad_edge=False, padding=(0, 2, 0, 0))
    if with_station:
        table.add_column("station", overflow="fold")
    table.add_column("period", no_wrap=True)
    table.add_column("AQI", no_wrap=True)
    for parameter in shown:
        table.add_column(names[parameter], justify="right", no_wrap=True)
    for one in left:
        row = period_row(one)
        aqi = "-" if row["aqi"] is None else str(row["aqi"])
        if row["aqi"] is not None and spread:
            aqi += f" ({row['aqi_min']} to {row['aqi_max']})"
        table.add_row(
            *([escape(one.period.station)] if with_station else []),
            f"{row['period']} to {row['end']:%Y-%m-%d %H:%M}Z",
            aqi,
            *(_cell(one.tally.pollutants.get(parameter)) for parameter in shown),
        )
    table.caption = (
        f"means{' (AQI: least to greatest)' if spread else ''}, ug/m3; ~ partly imputed; * partly corrected;"
        " - no value"
    )
    missing = [names[name] for name in POLLUTANTS if name not in shown]
    if missing:
        table.caption += f"; a wider terminal shows {', '.join(missing)}"
    return table


def told(left: Sequence[Left]) -> str:
    """That windows are gone, and what stands for them; nothing where none are."""
    if not left:
        return ""
    parts = [
        counted(count, word)
        for kind, word in _WORDS.items()
        if (count := sum(one.period.kind == kind for one in left))
    ]
    missed = sum(one.missed for one in left)
    later = f"; of {missed} of these windows a newer revision came when they had left" if missed else ""
    return (
        f"windows up to {format_time(from_ms(max(one.period.stop for one in left)))} are kept no more"
        f" (retention.windows); in their place: {' and '.join(parts)}{later}"
    )
