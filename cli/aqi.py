"""`skyfuse aqi`: explains an index from concentrations given on the command line."""

import json
import re
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import typer
from rich.highlighter import NullHighlighter
from rich.table import Table

from aqi import standards
from aqi.errors import AqiError, InputError
from aqi.index import IndexResult, index_of, lowest
from aqi.standards import AVERAGING_MS, Measure, Standard
from aqi.units import CANONICAL_UNIT, convert
from cli.shared.fitting import fitting, screen

_CONCENTRATION = re.compile(
    rf"(?P<parameter>[a-z0-9]+?)(?:_(?P<averaging>{'|'.join(AVERAGING_MS)}))?"
    r"=(?P<value>[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?)\s*(?P<unit>\D.*)?"
)
#: Characters of a refused value that are shown: nobody reads 400 digits.
_SHOWN: Final = 40
#: What a cubic metre of air weighs, ug.
_AIR: Final = 1.2e9


def concentration(standard: Standard, text: str) -> tuple[Measure, float]:
    """The table that `text` ("o3_1h=0.162ppm") is for and its value in the unit of that table.

    Without an averaging it is the first that the standard's report has for the parameter, without a unit that
    of the table. Mixing ratios and masses convert at the standard's own reference temperature. InputError
    says what is wrong with `text` and how to mend it.
    """
    found = _CONCENTRATION.fullmatch(
        text.strip().lower().replace("µ", "u").replace("μ", "u").replace("³", "3")
    )
    if found is None:
        raise InputError(
            f"{text!r} is no concentration: write parameter[_averaging]=value[unit], "
            "e.g. pm25=35.9 or o3_1h=0.162ppm"
        )
    parameter, averaging = found["parameter"], found["averaging"]
    tables = [m for m in standard.reports[standard.default_report] if m.parameter == parameter]
    if averaging:
        tables = [
            m for m in standard.measures.values() if (m.parameter, m.averaging) == (parameter, averaging)
        ]
    if not tables:
        wanted = f"{parameter}_{averaging}" if averaging else parameter
        raise InputError(
            f"{text!r}: {standard.id} has no table for {wanted}; it has {', '.join(standard.measures)}"
        )
    measure, value = tables[0], float(found["value"])
    unit = found["unit"].strip() if found["unit"] else measure.unit
    value = convert(parameter, value, unit, measure.unit, standard.reference_celsius)
    least = lowest(standard, measure)
    most = convert(parameter, _AIR, CANONICAL_UNIT, measure.unit, standard.reference_celsius)
    if not least <= value <= most:
        shown = text if len(text) <= _SHOWN else text[:_SHOWN] + "..."
        raise InputError(
            f"{shown!r} is no concentration: give a number from {least:.3g} {measure.unit}"
            f" (an instrument's noise about zero) to {most:.3g} (the air itself)"
        )
    return measure, value


def explain(standard: Standard, concentrations: list[str], site: str | None = None) -> dict[str, Any]:
    """The index of `concentrations` with its sub-indices and the source of the table, as JSON-able data."""
    if not concentrations:
        raise InputError("no concentrations given: write for example pm25=35.9 o3_1h=0.162ppm co=8.4ppm")
    if site is not None and site not in standard.requirement_by_site:
        known = ", ".join(standard.requirement_by_site) or "none"
        raise InputError(f"{standard.id} knows no kind of station {site!r}; it distinguishes: {known}")
    values: dict[tuple[str, str], float] = {}
    for text in concentrations:
        measure, value = concentration(standard, text)
        key = measure.parameter, measure.averaging
        if key in values:
            raise InputError(f"{text!r}: {measure.key} is given twice: keep one")
        values[key] = value
    result = index_of(standard, values, site=site)
    return {
        **_plain(result),
        "advice": None if result.category is None else result.category.advice(),
        "edition": standard.edition,
        "source": standard.source,
        "source_url": standard.source_url,
    }


def _plain(result: IndexResult) -> dict[str, Any]:
    plain = result.to_plain()
    # Have no meaning for given means.
    for live in ("report", "at_ms", "imputed_share", "nowcast", "nowcast_reason"):
        del plain[live]
    plain["subindices"] = [
        {
            "parameter": sub.parameter,
            "averaging": sub.averaging,
            "index": sub.index,
            "value": sub.value,
            "unit": sub.unit,
            "beyond": sub.beyond,
        }
        for sub in result.subindices
    ]
    return plain


def aqi_command(
    concentrations: Annotated[
        list[str],
        typer.Argument(
            metavar="PARAMETER=VALUE...",
            help="Means, as PARAMETER[_AVERAGING]=VALUE[UNIT]: pm25=35.9 o3_1h=0.162ppm. Averaging and unit"
            " are the standard's if not given.",
        ),
    ],
    standard: Annotated[
        str, typer.Option("--standard", "-s", help=f"One of {', '.join(standards.available())}.")
    ] = "us-epa-2024",
    date: Annotated[
        str | None,
        typer.Option(help="Day of the data (YYYY-MM-DD): chooses the edition of `cn` and `us-epa`."),
    ] = None,
    site: Annotated[
        str | None, typer.Option(help="Kind of station, where the standard asks (eaqi-2025: traffic).")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of a table.")] = False,
) -> None:
    """Explain an air-quality index: sub-indices, averaging, dominant pollutant, validity, source."""
    try:
        chosen = standards.load(standard, None if date is None else _noon(date))
        explained = explain(chosen, concentrations, site)
    except AqiError as refused:
        typer.echo(f"skyfuse aqi: {refused}", err=True)
        raise typer.Exit(2) from refused
    if as_json:
        typer.echo(json.dumps(explained, ensure_ascii=False))
    else:
        _show(chosen, explained)


def _noon(date: str) -> int:
    try:
        day = datetime.strptime(date, "%Y-%m-%d").replace(hour=12, tzinfo=UTC)
    except ValueError as refused:
        raise InputError(f"--date {date!r} is no day: write it as 2026-03-01") from refused
    return int(day.timestamp() * 1000)


def _table(standard: Standard, explained: dict[str, Any], category: bool) -> Table:
    """The sub-indices, the highest first; without their categories where there is no room."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("pollutant", "averaging", "concentration", "sub-index", *(["category"] if category else [])):
        table.add_column(name, overflow="fold")
    for sub in sorted(explained["subindices"], key=lambda sub: -sub["index"]):
        above = " (above the table)" if sub["beyond"] else ""
        table.add_row(
            sub["parameter"],
            sub["averaging"],
            f"{sub['value']:.6g} {sub['unit']}{above}",
            str(sub["index"]),
            *([standard.category(sub["index"]).name] if category else []),
        )
    return table


def _show(standard: Standard, explained: dict[str, Any]) -> None:
    console = screen()
    console.highlighter = NullHighlighter()
    index = explained["index"]
    if index is None:
        console.print(f"[bold]no index[/] ({explained['status']})")
    else:
        dominant = ", ".join(explained["dominant"]) or "none"
        console.print(f"[bold]{standard.name}: {index}, {explained['category']}[/]  ({explained['status']})")
        console.print(f"dominant pollutant: {dominant}")
    if explained["reason"]:
        console.print(f"validity: {explained['reason']}")
    console.print(fitting(console, (_table(standard, explained, category) for category in (True, False))))
    if explained["advice"]:
        console.print(explained["advice"])
    console.print(f"[dim]{standard.id}, {standard.edition}. {standard.source}[/]", soft_wrap=True)
