"""skyfuse's own table of readings, one value a row (docs/data-layout.md)."""

from typing import Final

from schemas.errors import Refused
from sources.adapters.core.adapter import Adapter
from sources.adapters.core.cells import short
from sources.adapters.core.payload import Node
from sources.adapters.core.tray import Tray

#: Columns that a table has to have; the time's may be called observed_at.
_NEEDED: Final = ("time", "parameter", "value", "unit")


def _read(payload: Node, tray: Tray) -> None:
    for number, row in enumerate(row for row in payload.each() if row):
        if number == 0:
            _expect_columns([name for name, _ in row.items()])
        device = tray.device(row["station"].text())
        period, stamp = tray.seconds(row["period"]), tray.stamp(row["stamp"])
        draft = tray.draft(device, row["time"] or row["observed_at"], period, stamp)
        draft.exact(
            row["value"],
            row["parameter"].text(),
            row["unit"].text(),
            row["sensor"].text(),
            row["channel"].text(),
        )


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
