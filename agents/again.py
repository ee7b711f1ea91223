"""Records made again of what the join holds of them: for dead letters of windows that came to nothing."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from schemas.amendment import AMENDMENT_TYPE
from schemas.base import from_ms
from schemas.reading import Quantity, Reading, Value
from streams.join import Item, WindowView


@dataclass
class RecordAgain:
    """A record made again of what the join holds of it: the original lies where `offset` says."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Iterable[tuple[str, bytes | None]] = ()


def records_of(view: WindowView, topics: Mapping[str, str], partition: int) -> list[RecordAgain]:
    """The records of a window's own inputs, with all of them that it holds."""
    found: dict[tuple[str, int], list[Item]] = {}
    for source, inputs in view.inputs.items():
        for item in inputs:
            if view.start <= item.time < view.end:
                found.setdefault((source, item.offset), []).append(item)
    records = []
    for (source, offset), items in sorted(found.items()):
        first = items[0]
        if source == "features":
            value = first.payload.model_dump_json()
        else:
            values = tuple(_value(item.payload) for item in items)
            observed_at = from_ms(first.identity[-1])
            value = Reading(station=view.station, observed_at=observed_at, values=values).model_dump_json()
        records.append(
            RecordAgain(topics[source], partition, offset, first.seen, view.station.encode(), value.encode())
        )
    return records


def _value(of: Quantity) -> Value:
    return Value(
        parameter=of.parameter,  # type: ignore[arg-type]  # it was one
        value=of.value, unit=of.unit, sensor=of.sensor, channel=of.channel,
    )  # fmt: skip


def amendment_again(view: WindowView, topic: str, partition: int) -> RecordAgain:
    """The record of a change of the past that nothing could be made of."""
    ((item,),) = view.inputs.values()
    value: str = item.payload.model_dump_json()
    return RecordAgain(
        topic, partition, item.offset, view.end, view.station.encode(), value.encode(),
        (("ce_type", AMENDMENT_TYPE),),
    )  # fmt: skip
