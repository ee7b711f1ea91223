"""The real series in ../shared/data, hourly, ug/m3, NaN where missing (for tests marked `realdata`)."""

import csv
import gzip
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

ROOT = Path(__file__).resolve().parents[3] / "shared" / "data"

CPCB = {
    "pm25": ("PM2.5 (ug/m3)", 1.0),
    "pm10": ("PM10 (ug/m3)", 1.0),
    "no2": ("NO2 (ug/m3)", 1.0),
    "so2": ("SO2 (ug/m3)", 1.0),
    "co": ("CO (mg/m3)", 1000.0),
    "o3": ("Ozone (ug/m3)", 1.0),
}
BEIJING = {name: (name.upper().replace("PM25", "PM2.5"), 1.0) for name in CPCB}


def files() -> list[Path]:
    """Every hourly file, one per station; empty where the data are not here."""
    return [*sorted(ROOT.glob("cpcb-hourly/*.csv.gz")), *sorted(ROOT.glob("beijing/*.csv.gz"))]


@cache
def station(path: Path) -> dict[str, npt.NDArray[np.float64]]:
    """Pollutant to its hourly series, consecutive hours."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    names = CPCB if path.parent.name == "cpcb-hourly" else BEIJING
    return {
        parameter: np.array(
            [float(row[name]) * scale if row[name] not in ("", "NA") else np.nan for row in rows]
        )
        for parameter, (name, scale) in names.items()
        if name in rows[0]
    }
