"""The ground truth of a simulation, kept beside its data: one line per station and minute."""

import csv
from pathlib import Path
from typing import Final, get_args

from datasets.errors import SourceError
from schemas.base import format_time, from_ms, parse_time, to_ms
from schemas.parameters import POLLUTANTS, Parameter
from schemas.times import MINUTE_MS
from sources.simulate.air import air
from sources.simulate.city import City
from sources.simulate.sensors import fault

_PARAMETERS: Final = tuple(
    name for name in get_args(Parameter) if name in (*POLLUTANTS, "relativehumidity", "temperature")
)
COLUMNS: Final = ("time", "station", *_PARAMETERS, "faults")


def truth_file(data_dir: Path, city: City) -> Path:
    """Where the ground truth of a city is kept."""
    return data_dir / "truth" / f"seed-{city.seed}-stations-{len(city.stations)}.csv"


class Truth:
    """Appends to `truth_file`: time, station, the true air in ug/m3, % and Cel, and what is broken.

    `faults` has words such as `gas:stuck`, separated by blanks. After a restart, writing goes on after the
    last whole minute that is there. Raises SourceError where the file cannot be used.
    """

    def __init__(self, data_dir: Path, city: City) -> None:
        self.file = truth_file(data_dir, city)
        self._city = city
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            self.last_ms = self._recover()
        except (OSError, ValueError) as error:
            raise SourceError(
                f"cannot use the ground truth in {self.file}: {error}; move it away to begin a new one"
            ) from error

    def note(self, upto_ms: int, since_ms: int) -> None:
        """Write all whole minutes from `since_ms` on, or from the last one written, that end by `upto_ms`."""
        minute = max(-(-since_ms // MINUTE_MS) * MINUTE_MS, (self.last_ms or 0) + MINUTE_MS)
        try:
            with self.file.open("a", newline="") as output:
                rows = csv.writer(output)
                while minute <= upto_ms:
                    rows.writerows(self._rows(minute))
                    self.last_ms = minute
                    minute += MINUTE_MS
        except OSError as error:
            raise SourceError(f"cannot write the ground truth to {self.file}: {error}") from error

    def _rows(self, time_ms: int) -> list[list[str]]:
        rows = []
        for station in self._city.stations:
            truth = air(self._city, station, time_ms)
            broken = [
                f"{sensor.sensor}:{found[0]}"
                for sensor in station.record.sensors
                if (found := fault(self._city, station, sensor.sensor, time_ms)) is not None
            ]
            values = [f"{truth[name]:.2f}" for name in _PARAMETERS]
            rows.append([format_time(from_ms(time_ms)), station.id, *values, " ".join(broken)])
        return rows

    def _recover(self) -> int | None:
        """The last whole minute in the file; a minute that a crash cut short is cut off."""
        if not self.file.exists() or self.file.stat().st_size == 0:
            self.file.write_text(",".join(COLUMNS) + "\r\n")
            return None
        with self.file.open("r+b") as file:
            size = file.seek(0, 2)
            start = max(0, size - 256 * (len(self._city.stations) + 2))
            file.seek(start)
            text = file.read()
            text = text[: text.rfind(b"\n") + 1]
            lines = text.splitlines(keepends=True)
            if start:
                lines = lines[1:]
            else:
                if not lines or lines[0].decode().strip() != ",".join(COLUMNS):
                    raise ValueError("its header is not that of a ground truth")
                lines = lines[1:]
            times = [line.split(b",", 1)[0] for line in lines]
            kept = len(times)
            while kept and times[:kept].count(times[kept - 1]) < len(self._city.stations):
                kept = times.index(times[kept - 1])
            file.truncate(start + len(text) - sum(map(len, lines[kept:])))
            return to_ms(parse_time(times[kept - 1].decode())) if kept else None
