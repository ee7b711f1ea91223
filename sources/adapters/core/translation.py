"""What a payload becomes: readings, facts of stations, and a name for every part that became neither.

`translate` never raises and drops nothing silently. What a field table, the list of known other parts or the
function of an adapter does not take is refused as ``unknown``. Everything is bounded: bytes, values, names.
"""

from typing import Final, NamedTuple

from schemas.errors import Refused
from schemas.reading import Reading
from sources.adapters.core.adapter import Adapter
from sources.adapters.core.parts import Part
from sources.adapters.core.payload import LINE, Node, decoded, table
from sources.adapters.core.source_format import Context
from sources.adapters.core.tray import Tray

#: A payload of more bytes is refused whole: a day of a country's stations fits ten times over.
MAX_BYTES: Final = 8 * 1024 * 1024
#: What a function that takes untidy data for tidy may raise; its payload is refused then, nobody stops.
_MALFORMED: Final = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)


class Facts(NamedTuple):
    """What a payload says of a station itself; empty and None: nothing."""

    station: str
    name: str = ""
    latitude: float | None = None
    longitude: float | None = None
    battery_percent: float | None = None
    battery_volts: float | None = None
    firmware: str = ""
    model: str = ""
    #: `indoor` or `outdoor`: the air of a room is not that of the street.
    exposure: str = ""


class UnbelievedClock(NamedTuple):
    """A station of whose clock a time was refused, and why: by code, and in words."""

    station: str
    code: str
    why: str


class Translation(NamedTuple):
    """What a payload became.

    `refused`: parts that could not be used, and should have been; `left_out`: known parts that are no reading
    (no value at the time, another quantity, the radio's reception); `remarks`: how times were understood.
    """

    readings: tuple[Reading, ...]
    facts: tuple[Facts, ...]
    refused: tuple[Part, ...]
    left_out: tuple[Part, ...]
    remarks: tuple[Part, ...]
    wrong_clocks: tuple[UnbelievedClock, ...] = ()


def translate(adapter: Adapter, data: bytes, context: Context) -> Translation:
    """What `data` means by `adapter`. Never raises; every part is used, left out or refused by name."""
    tray = Tray(adapter, context)
    try:
        payload = _parsed(adapter, data, tray)
    except Refused as refused:
        tray.refused.add(refused.code, "", "", refused.message)
        return _of(tray)
    try:
        adapter.read(payload, tray)
    except Refused as refused:  # what was not read yet, as a whole
        tray.refuse(refused.code, payload, refused.message)
    except _MALFORMED as error:
        tray.refused.add("adapter_fault", "", "", f"{type(error).__name__} in the adapter: {error!s:.80}")
    tray.sweep(payload)
    return _of(tray)


def _of(tray: Tray) -> Translation:
    readings = tuple(tray.readings())
    facts = tuple(Facts(device.station, **device.facts) for device in tray.devices() if device.facts)  # type: ignore[arg-type]
    refused, left_out, remarks = tray.refused.parts(), tray.left_out.parts(), tray.remarks.parts()
    if not (readings or facts or refused or left_out):
        refused = (Part("nothing", "", "there is nothing in it that this adapter reads"),)
    clocks = tuple(
        UnbelievedClock(one.station, *one.wrong_clock) for one in tray.devices() if one.wrong_clock
    )
    return Translation(readings, facts, refused, left_out, remarks, clocks)


def _parsed(adapter: Adapter, data: bytes, tray: Tray) -> Node:
    if len(data) > MAX_BYTES:
        raise Refused("too_large", f"{len(data)} bytes: more than {MAX_BYTES} are not read")
    text, latin = decoded(data)
    if latin:
        tray.remarks.add("not_utf8", "", "", "it is not UTF-8, and was read as Latin-1")
    if not text.strip():
        raise Refused("nothing", "it is empty")
    match adapter.form:
        case "text":
            return Node.root(text)
        case "table":
            header = None if adapter.header is None else list(adapter.header)
            rows, wrong, above = table(text, header, adapter.heads)
            if above:
                words = f"{above} lines above the table"
                tray.left_out.add("heading", "", f"{LINE}[1]", words)
            for index, why in wrong.items():
                tray.refused.add("not_a_row", why, f"{LINE}[{index + 1}]", why)
            return Node.root(rows, LINE)
        case "json":
            return Node.root(tray.document(text))
