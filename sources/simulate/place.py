"""Where a simulated city lies: where it is day when it is first seen, and there for good."""

import json
import os
from pathlib import Path
from typing import Final

from datasets.errors import SourceError
from schemas.base import format_time, from_ms, parse_time, to_ms
from sources.simulate.city import FORMER_PLACE, City, Place, build

#: Local solar time, in hours, at which a city opens: its history of an hour and the next seven are light.
_OPENS_AT: Final = 10.0
#: North of the equator by so little the sun stands high on every morning of the year.
_LATITUDE: Final = 12.0
#: No station of a city may lie beyond the date line.
_EASTERNMOST: Final = 179.0


def place_of_day(now_ms: int) -> Place:
    """The place where it is ten in the morning now."""
    hours = now_ms / 3_600_000 % 24.0
    longitude = ((_OPENS_AT - hours) * 15.0 + 180.0) % 360.0 - 180.0
    return Place(_LATITUDE, round(max(-_EASTERNMOST, min(_EASTERNMOST, longitude)), 2), now_ms)


def settle(data_dir: Path, now_ms: int, count: int = 6, seed: int = 7) -> City:
    """The city of `count` stations in a data folder: the one that is there, or a new one where it is day now.

    The place of each seed is written beside its ground truth (`sources.simulate.truth`) and stays: a city
    that goes on has the same stations in the same place, by night as well. Raises SourceError.
    """
    file = data_dir / "truth" / f"seed-{seed}.json"
    try:
        if file.exists():
            return build(count, seed, _read(file))
        if any(file.parent.glob(f"{file.stem}-stations-*.csv")):  # simulated before places were chosen
            return build(count, seed, FORMER_PLACE)
        place = place_of_day(now_ms)
        file.parent.mkdir(parents=True, exist_ok=True)
        draft = file.with_suffix(".new")
        draft.write_text(
            json.dumps(
                {
                    "latitude": place.latitude,
                    "longitude": place.longitude,
                    "opened": format_time(from_ms(now_ms)),
                }
            )
        )
        os.replace(draft, file)
    except OSError as error:
        raise SourceError(f"cannot keep the simulated city's place in {file}: {error}") from error
    return build(count, seed, place)


def _read(file: Path) -> Place:
    try:
        stated = json.loads(file.read_text())
        place = Place(
            float(stated["latitude"]), float(stated["longitude"]), to_ms(parse_time(stated["opened"]))
        )
        if not (abs(place.latitude) <= 80.0 and abs(place.longitude) <= _EASTERNMOST):
            raise ValueError(f"{place.latitude}, {place.longitude} is no place for a city")
    except (ValueError, TypeError, LookupError) as error:
        raise SourceError(
            f"the simulated city's place in {file} cannot be read: {error}; move the file away, and "
            "the city goes on at 12 N, 6 W"
        ) from error
    return place
