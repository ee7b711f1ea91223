"""skyfuse's own table of readings, one value a row (docs/data-layout.md)."""

from typing import Final

from sources.adapters.core.adapter import Adapter
from sources.adapters.core.payload import Node
from sources.adapters.core.tray import Tray


def _read(payload: Node, tray: Tray) -> None:
    for row in payload.each():
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
