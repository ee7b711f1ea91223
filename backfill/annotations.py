"""What people say of stations' data, as it lies on aq.annotations.v1."""

from collections.abc import Iterable
from typing import Any

from fusion.amending import LeftOut, left_out
from schemas.amendment import Withheld
from schemas.annotation import Annotation
from schemas.errors import Refused
from streams.accept import Keys, read_annotation


def withheld_of(annotation: Annotation) -> Withheld:
    """The readings that an invalidation is about."""
    return Withheld(
        id=annotation.id, sensor=annotation.sensor, parameter=annotation.parameter,
        since=annotation.since, until=annotation.until,
    )  # fmt: skip


def withheld_by_station(annotations: Iterable[Annotation]) -> dict[str, tuple[LeftOut, ...]]:
    """What does not count now, by station."""
    found: dict[str, tuple[LeftOut, ...]] = {}
    for one in annotations:
        if one.kind == "invalid" and one.undone is None:
            found[one.station] = (*found.get(one.station, ()), left_out(withheld_of(one)))
    return found


def read_annotations(records: Iterable[Any], keys: Keys) -> list[Annotation]:
    """The newest of each annotation on a partition, by station and time; what is none is left out."""
    newest: dict[bytes, Annotation] = {}
    for record in records:
        if record.value is None:
            newest.pop(record.key, None)
            continue
        try:
            newest[record.key] = read_annotation(record, keys)
        except Refused:
            continue  # another program's: nobody acts on it, and the sink has written a dead letter
    return sorted(newest.values(), key=lambda one: (one.station, one.made_at, one.id))
