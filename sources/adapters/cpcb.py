"""India's Central Pollution Control Board: tables of one station, as its portal (CCR) exports them."""

from datetime import timedelta, timezone
from itertools import pairwise
from typing import Final

from sources.adapters.core.adapter import Adapter
from sources.adapters.core.payload import Node
from sources.adapters.core.tray import Tray
from sources.adapters.core.words import without_unit

#: Names that mean this only here.
_SHORT: Final = {"AT": "temperature", "BP": "pressure"}
_IST: Final = timezone(timedelta(hours=5, minutes=30))


def _read(payload: Node, tray: Tray) -> None:
    device = tray.device()
    lines = [line for line in payload.each() if line.is_object()]
    times = [tray.moment(device, line["To Date"] or line["Timestamp"]) for line in lines]
    # The newer table states the beginning of a period, and not how long it is: as long as from line to line.
    steps = [abs((b - a).total_seconds()) for a, b in pairwise(times) if a and b and b != a]
    for line, at in zip(lines, times, strict=True):
        begin = tray.moment(device, line["From Date"]) if line["From Date"] else None
        period = (at - begin).total_seconds() if at and begin else min(steps, default=None)
        if at is None:
            draft = tray.refused_draft(device)
        else:
            draft = tray.draft(device, at=at, period_s=period, stamp="ends" if begin else "begins")
        for name, cell in line.items():
            base, unit = without_unit(name)
            if not draft.named(_SHORT.get(base, base), cell.called(name), unit):
                tray.other(name, cell)


ADAPTER: Final = Adapter(
    name="cpcb",
    title="CPCB CAAQMS (CSV of a station)",
    versions="portal exports since 2018 (From Date, To Date; what was asked for in lines above the table) and"
    " bulk files since 2023 (Timestamp, the beginning; units in the names of columns). Gases without a unit"
    " in their column's name are refused",
    arrives="file",
    form="table",
    read=_read,
    others={
        "WS*": "wind", "WD*": "wind", "VWS*": "wind", "SR*": "light", "RF*": "rain", "TOT-RF*": "rain",
        "Xylene*": "organic", "O Xylene*": "organic", "MP-Xylene*": "organic", "Eth-Benzene*": "organic",
        "Benzene*": "organic", "Toluene*": "organic", "NH3*": "ammonia", "NOx*": "NOx", "NO (*": "NO",
        "*#": "number of the line",
    },
    naive=_IST,
    heads=("From Date", "Timestamp"),
    formats=("%d-%m-%Y %H:%M", "%d-%b-%Y %H:%M", "%d-%b-%Y - %H:%M", "%d-%m-%Y %H:%M:%S", "%d/%m/%Y %H:%M"),
    correction="the board's",
    time_source="server",
    archive=True,
)  # fmt: skip
