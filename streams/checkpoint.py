"""Checkpoints of per-station state on a compacted topic, consistent with the committed offsets.

A station's state is written under two keys in turn (``station#0``, ``station#1``), stamped with the horizon
it belongs to: the end of the last window it has learned from. Writing comes first, the commit second. A
worker that dies in between leaves a snapshot that is ahead of the commit; its successor takes the other one,
which is not, and learns the windows in between again from the log. So recovery gives the same state to the
last bit, wherever the crash falls.

A snapshot that cannot be read does not stop the others. Where the one in the other slot can, the station goes
on from there and lacks the windows in between; else it begins anew. Both are said loudly and counted, and the
damaged record stays on the topic until a later snapshot takes its place. A snapshot of a later version is
another matter: it is whole, and going on would overwrite it, so the worker stops.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Final, Protocol, TypeVar

from schemas.errors import DamagedState
from streams import metrics
from streams.stage import Out

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Header of a snapshot: the horizon it belongs to.
AT: Final = "x-checkpoint-at"


class _SnapshotRecord(Protocol):
    @property
    def key(self) -> bytes: ...
    @property
    def value(self) -> bytes: ...
    @property
    def headers(self) -> Iterable[tuple[str, bytes]]: ...


class Checkpoints:
    """The snapshots of one partition."""

    def __init__(self, topic: str, partition: int) -> None:
        self._topic = topic
        self._partition = partition
        #: Per station: the slot and horizon of the snapshot that the committed offsets go with.
        self._safe: dict[str, tuple[int, int]] = {}
        self._pending: dict[str, tuple[int, int]] = {}

    def load(
        self, records: Iterable[_SnapshotRecord], horizon: int, read: Callable[[str, bytes], T]
    ) -> dict[str, tuple[int, T]]:
        """Per station the newest readable snapshot that is not ahead of `horizon`: (its horizon, state).

        `read` gives the state in a record of that name. Raises NewerState.
        """
        found: dict[str, list[tuple[int, int, bytes]]] = {}
        for record in records:
            try:
                station, _, turn = record.key.decode().rpartition("#")
                at, slot = int(dict(record.headers)[AT]), int(turn)
            except (ValueError, KeyError, TypeError) as error:
                self._damaged(f"{record.key!r}", error, "it is left alone")
                continue
            if at <= horizon:
                found.setdefault(station, []).append((at, slot, record.value))
        loaded: dict[str, tuple[int, T]] = {}
        for station, snapshots in found.items():
            while snapshots and station not in loaded:
                newest = max(snapshots)
                snapshots.remove(newest)
                at, slot, data = newest
                try:
                    loaded[station] = (at, read(station, data))
                except DamagedState as error:
                    goes_on = "goes on from the snapshot before" if snapshots else "begins anew"
                    self._damaged(repr(station), error, f"it {goes_on}")
                else:
                    self._safe[station] = (slot, at)
        return loaded

    def _damaged(self, what: str, error: Exception, outcome: str) -> None:
        metrics.STATE_DAMAGED.labels(self._topic).inc()
        log.error(
            "%s[%d], %s: %s; %s, and the record stays there until it is overwritten",
            self._topic, self._partition, what, error, outcome,
        )  # fmt: skip

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

    def forget(self, names: Iterable[str]) -> list[Out]:
        """Tombstones, to be produced before the commit, of everything that is stored under `names`."""
        out = []
        for name in names:
            self._safe.pop(name, None)
            self._pending.pop(name, None)
            out += [Out(self._topic, f"{name}#{slot}".encode(), None, (), self._partition) for slot in (0, 1)]
        return out

    def committed(self) -> None:
        """The offsets that go with what was written are committed."""
        self._safe |= self._pending
        self._pending.clear()
