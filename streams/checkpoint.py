"""Checkpoints of per-station state on a compacted topic, consistent with the committed offsets.

A station's state is written under two keys in turn (``station#0``, ``station#1``), stamped with the horizon
it belongs to: the end of the last window it has learned from. Writing comes first, the commit second. A
worker that dies in between leaves a snapshot that is ahead of the commit; its successor takes the other one,
which is not, and learns the windows in between again from the log. So recovery gives the same state to the
last bit, wherever the crash falls.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Final, Protocol

from streams.driver import Out

#: Header of a snapshot: the horizon it belongs to.
AT: Final = "x-checkpoint-at"


class _Record(Protocol):
    key: bytes
    value: bytes
    headers: Iterable[tuple[str, bytes]]


class Checkpoints:
    """The snapshots of one partition."""

    def __init__(self, topic: str, partition: int) -> None:
        self._topic = topic
        self._partition = partition
        #: Per station: the slot and horizon of the snapshot that the committed offsets go with.
        self._safe: dict[str, tuple[int, int]] = {}
        self._pending: dict[str, tuple[int, int]] = {}

    def load(self, records: Iterable[_Record], horizon: int) -> dict[str, tuple[int, bytes]]:
        """Per station the newest snapshot that is not ahead of `horizon`: (its horizon, its bytes)."""
        found: dict[str, tuple[int, bytes]] = {}
        for record in records:
            station, _, slot = record.key.decode().rpartition("#")
            at = int(dict(record.headers)[AT])
            if at <= horizon and (station not in found or at > found[station][0]):
                found[station] = (at, record.value)
                self._safe[station] = (int(slot), at)
        return found

    def write(self, horizons: Mapping[str, int], dump: Callable[[str, int], bytes]) -> list[Out]:
        """Records to produce before the commit, for the stations whose horizon moved since the last one."""
        out = []
        for station, at in horizons.items():
            slot, safe_at = self._safe.get(station, (1, None))
            if safe_at == at:
                continue
            self._pending[station] = (1 - slot, at)
            key = f"{station}#{1 - slot}".encode()
            out.append(Out(self._topic, key, dump(station, at), [(AT, str(at).encode())], self._partition))
        return out

    def committed(self) -> None:
        """The offsets that go with what was written are committed."""
        self._safe |= self._pending
        self._pending.clear()
