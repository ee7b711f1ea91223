"""What the fusion stage says of records and estimates that do not go on: late, in conflict, too large."""

from collections.abc import Mapping
from typing import Final

from schemas.errors import Refused
from schemas.estimate import Estimate
from streams import metrics
from streams.accept import LATE_FROM
from streams.join import Output
from streams.letters import Letters
from streams.stage import KafkaRecord, Out
from streams.topics import LATE

#: Bytes of a record beside its key, value and headers, and of a header that is added on the way.
ROOM: Final = 4096
#: Values of a record that a dead letter names.
_NAMED: Final = 20


def largest(estimate: Estimate) -> str:
    """What makes an estimate large, and what would help."""
    inputs = estimate.inputs
    parts = {
        f"{len(inputs.frames)} frames": (inputs.frames, "send fewer frames in a window"),
        f"{len(inputs.withheld)} invalidations": (
            tuple(inputs.withheld), "say them of longer times: `skyfuse invalidate --list` shows all",
        ),
        "what is said of its sensors": (
            (*estimate.pollutants.values(), *estimate.missing.values()),
            "let a station have fewer of them, with shorter ids",
        ),
        f"{len(estimate.indices)} indices": (estimate.indices, "declare fewer standards"),
    }  # fmt: skip
    sizes = {name: len(repr(part)) for name, (part, _) in parts.items()}
    name = max(sizes, key=lambda one: sizes[one])
    return f"most of it, some {sizes[name]} characters, is {name}: {parts[name][1]}"


def _bytes(record: KafkaRecord) -> int:
    """What a record takes of its topic's limit."""
    headers = sum(len(name.encode()) + len(raw or b"") + 12 for name, raw in record.headers)
    return len(record.key or b"") + len(record.value or b"") + headers


def late_records(
    output: Output, topic: str, records: Mapping[int, KafkaRecord], letters: Letters
) -> list[Out]:
    """What came after its window was final, on its way to the topic of such; too large a one is refused."""
    out = []
    for offset in dict.fromkeys(item.offset for _, item in output.late):
        record = records[offset]
        metrics.LATE.labels(record.topic, "dropped").inc()
        if _bytes(record) > LATE.max_bytes - ROOM:
            reason = f"it came after its window was final, and {LATE.name} takes {LATE.max_bytes} bytes"
            letters.add(record, Refused("late_too_large", reason))
            continue
        origin = f"{record.topic}/{record.partition}/{record.offset}".encode()
        out.append(Out(topic, record.key, record.value, [*record.headers, (LATE_FROM, origin)]))
    return out


def refuse_conflicts(
    output: Output,
    records: Mapping[int, KafkaRecord],
    made: Mapping[int, int],
    letters: Letters,
) -> None:
    """A record is refused once, however many of its values were known with another number."""
    against: dict[int, dict[tuple[object, ...], None]] = {}
    for _, item in output.conflicts:
        against.setdefault(item.offset, {})[item.identity] = None
    for offset, identities in against.items():
        names = ["/".join(str(part) for part in identity) for identity in identities]
        others = f" and {len(names) - _NAMED} others" if len(names) > _NAMED else ""
        listed = ", ".join(names[:_NAMED]) + others
        reason = f"{listed} was sent before with another value; the first one counts"
        used = len([item for _, item in output.conflicts if item.offset == offset]) < made[offset]
        letters.add(records[offset], Refused("conflict", reason), used=used)
