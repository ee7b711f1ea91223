"""skyfuse's own table of readings, one value a row (docs/data-layout.md)."""

from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from typing import Final, NamedTuple

from schemas.errors import Refused
from sources.adapters.core.adapter import Adapter
from sources.adapters.core.cells import short
from sources.adapters.core.draft import Device
from sources.adapters.core.payload import Node
from sources.adapters.core.tray import Tray

#: Columns that a table has to have; the time's may be called observed_at.
_NEEDED: Final = ("time", "parameter", "value", "unit")


class _Measurand(NamedTuple):
    """What the values of some rows are of."""

    device: Device
    parameter: str
    sensor: str
    channel: str


def _read(payload: Node, tray: Tray) -> None:
    rows = list(payload.each())
    if rows:
        _expect_columns([name for name, _ in rows[0].items()])
    times = [row["time"] or row["observed_at"] for row in rows]
    # Each by itself: a table may have its series one after the other.
    members: dict[_Measurand, list[int]] = {}
    for index, row in enumerate(rows):
        of = _Measurand(
            tray.device(row["station"].text()),
            row["parameter"].text(),
            row["sensor"].text(),
            row["channel"].text(),
        )
        members.setdefault(of, []).append(index)
    whole = _rise(times)
    series: dict[int, _Measurand] = {}
    moments: dict[int, datetime | None] = {}
    for of, indices in members.items():
        stated = [times[index] for index in indices]
        found = tray.moments(of.device, stated, newest_first=(_rise(stated) or whole) < 0)
        series.update(dict.fromkeys(indices, of))
        moments.update(zip(indices, found, strict=True))
    for index, row in enumerate(rows):
        device, parameter, sensor, channel = series[index]
        period, stamp = tray.seconds(row["period"]), tray.stamp(row["stamp"])
        at = moments[index]
        draft = tray.refused_draft(device) if at is None else tray.draft(device, None, period, stamp, at=at)
        draft.exact(row["value"], parameter, row["unit"].text(), sensor, channel)


def _rise(times: Sequence[Node]) -> int:
    """How many more of the times are later than the one before them than are earlier; as they are written."""
    texts = [f"{time.peek()}" for time in times]
    return sum((a < b) - (a > b) for a, b in pairwise(texts))


def _expect_columns(names: list[str]) -> None:
    """Raise Refused where a needed column is none of `names`."""
    known = ["time" if name == "observed_at" else name for name in names]
    if missing := [name for name in _NEEDED if name not in known]:
        raise Refused(
            "no_column",
            f"the table has no column {', '.join(missing)}: the first line has to name station, time,"
            f" parameter, value and unit (sensor, channel, period and stamp may be there), and names"
            f" {', '.join(short(name) for name in names[:12])}",
        )


ADAPTER: Final = Adapter(
    name="skyfuse-csv",
    title="skyfuse readings (CSV)",
    versions="the columns of docs/data-layout.md; separated by comma, semicolon or tab, with decimal point"
    " or comma",
    arrives="POST, file",
    form="table",
    read=_read,
    naive="station",
    correction="none",
    many=True,
    archive=True,
)  # fmt: skip
