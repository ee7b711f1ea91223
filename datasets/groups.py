"""Folders of frames and readings as groups: one group = one (site, moment), its frames and one reading.

Pure reading, no torch: the replay and the offline evaluation walk the same generator, so that both see
the same inputs. This is the layout `india-nepal` (the plain one is in `datasets.hourly`): `labels.csv` beside
`images/` (Rouniyar, Utomo, John A, Hsiung 2023; Location, Filename, Year, Month, Day, Hour, AQI, PM2.5, PM10,
O3, CO, SO2, NO2, AQI_Class), where every frame cut from one video repeats the video's one reading.
"""

import csv
import math
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from pydantic import ValidationError

from aqi.fill_values import fill_numbers, is_fill_value
from aqi.quality_defaults import defaults
from aqi.units import to_canonical
from datasets.errors import LayoutError
from schemas.base import first_error, format_time
from schemas.parameters import POLLUTANTS
from schemas.reading import Value

__all__ = [
    "INDIA_NEPAL_SITES",
    "INDIA_NEPAL_UNITLESS",
    "Group",
    "Site",
    "india_nepal",
    "without_refused",
]


class Site(NamedTuple):
    """Where the frames of one `Location` were taken."""

    station: str  #: key-safe station id
    name: str
    latitude: float | None  #: degrees north; None = unknown
    longitude: float | None  #: degrees east
    zone: str  #: IANA time zone of the layout's local hours


#: The eight places of the data set's own description, by its `Location` column. Coordinates are those of
#: the named monitoring station or, where none is public, of the place (to about a kilometre).
INDIA_NEPAL_SITES: Final[dict[str, Site]] = {
    "Bengaluru": Site("bengaluru", "Spice Garden, Bengaluru", 12.955, 77.716, "Asia/Kolkata"),
    "Biratnagar, Nepal": Site("biratnagar", "Biratnagar, Nepal", 26.455, 87.270, "Asia/Kathmandu"),
    "ITO, Delhi": Site("ito-delhi", "ITO, Delhi", 28.628, 77.241, "Asia/Kolkata"),
    "Dimapur, Nagaland": Site("dimapur", "Dimapur, Nagaland", 25.906, 93.727, "Asia/Kolkata"),
    "Mumbai": Site("mumbai", "Borivali East, Mumbai", 19.232, 72.869, "Asia/Kolkata"),
    "Tamil Nadu": Site("oragadam", "Oragadam, Tamil Nadu", 12.836, 79.955, "Asia/Kolkata"),
    "Knowledge park, Greater Noida": Site(
        "greater-noida", "Knowledge Park III, Greater Noida", 28.473, 77.482, "Asia/Kolkata"
    ),
    "New Industrial Town, Faridabad": Site(
        "faridabad", "New Industrial Town, Faridabad", 28.379, 77.309, "Asia/Kolkata"
    ),
}
#: The word by which each `Location` is known whatever else the cell says.
_PLACE_WORDS: Final = {
    "Bengaluru": "bengaluru",
    "Biratnagar, Nepal": "biratnagar",
    "ITO, Delhi": "delhi",
    "Dimapur, Nagaland": "dimapur",
    "Mumbai": "mumbai",
    "Tamil Nadu": "tamil",
    "Knowledge park, Greater Noida": "noida",
    "New Industrial Town, Faridabad": "faridabad",
}
#: Pollutants whose columns hold no concentration, and what was found (docs/model.md has the comparison).
INDIA_NEPAL_UNITLESS: Final[dict[str, str]] = {
    "no2": "learned from a column that stands at 0.5 to 5.6 times the official hourly ug/m3 nearby",
    "so2": "learned from a column that stands at 0.2 to 4.2 times the official hourly ug/m3 nearby",
    "co": "learned from a column with no one unit: 16 to 440 for each official mg/m3 nearby",
    "o3": "learned from a column that stands at 0.9 to 3.3 times the official hourly ug/m3 nearby",
}
_COLUMNS: Final = {"pm25": "PM2.5", "pm10": "PM10", "no2": "NO2", "so2": "SO2", "co": "CO", "o3": "O3"}
#: Temperature at which gases in a folder are taken to be reported.
_REFERENCE_CELSIUS: Final = 25.0
_BLANK: Final = frozenset({"", "na", "nan", "none", "-"})


class Group(NamedTuple):
    """All frames of one site and moment with the one reading they share."""

    site: Site
    time: datetime  #: timezone-aware, in the site's zone
    frames: tuple[Path, ...]  #: sorted by file name; files need not exist
    readings: tuple[float, ...]  #: six, in `POLLUTANTS` order, ug/m3 as stated by the source; NaN = blank
    aqi: float  #: the source's own AQI; NaN = blank
    taken_ms: tuple[int, ...] = ()  #: when each frame was taken; empty: all at `time`

    def taken(self, index: int) -> int:
        """When frame `index` was taken, ms since the epoch."""
        return self.taken_ms[index] if self.taken_ms else int(self.time.timestamp() * 1000)

    @property
    def position(self) -> tuple[float, float] | None:
        """(latitude, longitude), degrees; None where either is unknown."""
        site = self.site
        return None if site.latitude is None or site.longitude is None else (site.latitude, site.longitude)


def _why_refused(parameter: str, value: float, unit: str) -> str | None:
    """Why a worker counts a single value nowhere, in words; None where it counts it.

    That is: beyond what is physical or what its instruments can show, or a number that means no value.
    """
    try:
        quantity = Value.model_validate({"parameter": parameter, "value": value, "unit": unit})
    except ValidationError as error:
        return first_error(error).message
    known = defaults()
    if is_fill_value(quantity.value, unit, fill_numbers(known, parameter)):
        return f"{quantity.value:g} {unit} is the sensor's sign for no value"
    span = known.limits[parameter].fail_span if parameter in POLLUTANTS else None
    if span is not None:
        canonical = to_canonical(parameter, quantity.value, unit, _REFERENCE_CELSIUS)
        if not span[0] <= canonical <= span[1]:
            return f"{canonical:g} ug/m3 is outside what instruments show, {span[0]:g} to {span[1]:g} ug/m3"
    return None


def without_refused(groups: Iterable[Group]) -> tuple[list[Group], list[str]]:
    """Groups without the readings that a worker would refuse, and what was left out: station, time, why."""
    kept, problems = [], []
    for group in groups:
        readings = list(group.readings)
        for column, (name, value) in enumerate(zip(POLLUTANTS, group.readings, strict=True)):
            why = None if math.isnan(value) else _why_refused(name, value, "ug/m3")
            if why is not None:
                readings[column] = math.nan
                problems.append(f"{group.site.station} {format_time(group.time)}: {why}; left out")
        kept.append(group._replace(readings=tuple(readings)))
    return kept, problems


def _number(text: str, where: str) -> float:
    if text.strip().lower() in _BLANK:
        return math.nan
    try:
        value = float(text)
    except ValueError:
        raise LayoutError(
            f"{where}: {text!r} is not a number; leave the cell empty where there is none"
        ) from None
    if not math.isfinite(value):
        raise LayoutError(f"{where}: {text!r} is not finite; leave the cell empty where there is none")
    return value


def _mean(values: tuple[float | None, ...]) -> float:
    present = [value for value in values if value is not None]
    return math.fsum(present) / len(present) if present else math.nan


def _time(row: dict[str, str], zone: str, where: str) -> datetime:
    try:
        hour, _, minute = row["Hour"].strip().replace(".", ":").partition(":")
        return datetime(
            int(row["Year"]),
            int(row["Month"]),
            int(row["Day"]),
            int(hour),
            int(minute or 0),
            tzinfo=ZoneInfo(zone),
        )
    except ValueError as error:
        raise LayoutError(
            f"{where}: {row['Year']!r}, {row['Month']!r}, {row['Day']!r}, {row['Hour']!r}"
            f" is no date and hour ({error}); Hour is local, like 8:30"
        ) from None


def _site(location: str, where: str) -> Site:
    known = INDIA_NEPAL_SITES.get(location)
    if known is not None:
        return known
    # Spellings differ between copies of the set ("Faridabad", "New Industrial Town, Faridabad").
    for name, site in INDIA_NEPAL_SITES.items():
        if _PLACE_WORDS[name] in location.lower():
            return site
    raise LayoutError(
        f"{where}: Location {location!r} is none of the eight sites of this layout"
        f" ({', '.join(sorted(INDIA_NEPAL_SITES))}); use the plain layout for other places"
    )


def india_nepal(root: Path) -> Iterator[Group]:
    """Groups of an `india-nepal` folder in time order (then by station).

    Rows of one (Location, date, hour) form one group. Where they carry more than one distinct reading (it
    happens: a frame labelled with another day's row), the group's reading is the mean of the distinct ones.
    Values are taken as the source states them: they look like portal sub-indices, those of
    `INDIA_NEPAL_UNITLESS` have no unit (docs/model.md). Raises `LayoutError` naming file and line.
    """
    table = root / "labels.csv"
    if not table.is_file():
        raise LayoutError(f"{table} does not exist; the india-nepal layout is labels.csv beside images/")
    frames: dict[tuple[datetime, str], list[Path]] = {}
    seen: dict[tuple[datetime, str], dict[tuple[float | None, ...], None]] = {}
    sites: dict[str, Site] = {}
    with table.open(newline="", encoding="utf-8-sig") as handle:
        rows = csv.DictReader(handle)
        wanted = ["Location", "Filename", "Year", "Month", "Day", "Hour", *_COLUMNS.values(), "AQI"]
        lacking = [name for name in wanted if name not in (rows.fieldnames or [])]
        if lacking:
            raise LayoutError(f"{table}: column(s) {', '.join(lacking)} missing from the header")
        for row in rows:
            where = f"{table}:{rows.line_num}"
            if any(row[name] is None for name in wanted):
                raise LayoutError(f"{where}: fewer cells than the header has columns")
            site = _site(row["Location"].strip(), where)
            key = (_time(row, site.zone, where), site.station)
            sites[site.station] = site
            values = [
                _number(row[_COLUMNS[name]], f"{where}, column {_COLUMNS[name]}") for name in POLLUTANTS
            ]
            values.append(_number(row["AQI"], f"{where}, column AQI"))
            # NaN is not equal to itself: None stands for blank while distinct readings are told apart.
            marked = tuple(None if math.isnan(value) else value for value in values)
            seen.setdefault(key, {})[marked] = None
            frames.setdefault(key, []).append(root / "images" / row["Filename"].strip())
    for key in sorted(frames):
        means = [_mean(column) for column in zip(*seen[key], strict=True)]
        yield Group(
            site=sites[key[1]],
            time=key[0],
            frames=tuple(sorted(set(frames[key]))),
            readings=tuple(means[:-1]),
            aqi=means[-1],
        )
