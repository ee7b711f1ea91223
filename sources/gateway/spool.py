"""What waits on disk while Kafka is away, of devices that do not send again: bounded, in order, crash-safe.

A SQLite file in WAL mode, written through to the disk before anybody gets the answer that it was taken. All
gateways of a data folder share it; one of them empties it, oldest first, and takes out what Kafka has
confirmed.
"""

import asyncio
import contextlib
import fcntl
import json
import logging
import sqlite3
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, TypeVar
from zoneinfo import ZoneInfo

from sources.gateway.arrival import Arrival, Receipt
from sources.gateway.errors import KafkaAway, NotAllowed, SpoolFull
from sources.gateway.key_scope import KeyScope
from sources.gateway.reception import Reception
from streams import metrics

log = logging.getLogger(__name__)

T = TypeVar("T")

_PAGE: Final = 4096
#: Taken out at a time.
_BATCH: Final = 200
#: Seconds between two looks at whether something waits, or Kafka is back.
_PAUSE_S: Final = 1.0
_WARN_EVERY_S: Final = 60.0
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS arrival (
    number INTEGER PRIMARY KEY AUTOINCREMENT, adapter TEXT, body BLOB, received_at INTEGER, rest TEXT
);
"""


class _SpooledArrival(NamedTuple):
    number: int
    arrival: Arrival


class ArrivalSpool:
    """The file. Not thread-safe: one thread uses it."""

    def __init__(self, file: Path, most_bytes: int) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._base = sqlite3.connect(file, isolation_level=None, timeout=5.0, check_same_thread=False)
        self._base.execute(f"PRAGMA page_size={_PAGE}")
        self._base.execute("PRAGMA auto_vacuum=INCREMENTAL")
        self._base.execute("PRAGMA journal_mode=WAL")
        # Written through at each commit: what was acknowledged outlives a power cut.
        self._base.execute("PRAGMA synchronous=FULL")
        self._base.executescript(_SCHEMA)
        # SQLite itself holds the bound, with the same error as for a disk that is full.
        self._base.execute(f"PRAGMA max_page_count={max(16, most_bytes // _PAGE)}")
        self._base.execute(f"PRAGMA journal_size_limit={4 * 1024 * 1024}")

    def put(self, arrivals: Sequence[Arrival]) -> None:
        """Keep them, all or none. Raises SpoolFull."""
        rows = [(one.adapter, one.body, one.received_at, _rest(one)) for one in arrivals]
        try:
            self._base.execute("BEGIN IMMEDIATE")
            self._base.executemany(
                "INSERT INTO arrival (adapter, body, received_at, rest) VALUES (?, ?, ?, ?)", rows
            )
            self._base.execute("COMMIT")
        except sqlite3.OperationalError as error:
            if self._base.in_transaction:
                self._base.execute("ROLLBACK")
            raise SpoolFull(f"what waits for Kafka on disk can take no more: {error}") from error

    def first(self, most: int) -> list[_SpooledArrival]:
        """The oldest, in order."""
        rows = self._base.execute(
            "SELECT number, adapter, body, received_at, rest FROM arrival ORDER BY number LIMIT ?", (most,)
        ).fetchall()
        return [_SpooledArrival(number, _arrival(*row)) for number, *row in rows]

    def drop(self, up_to: int) -> None:
        """They are in Kafka."""
        self._base.execute("DELETE FROM arrival WHERE number <= ?", (up_to,))
        if not len(self):
            self._base.executescript("PRAGMA incremental_vacuum")  # `execute` would free one page
            self._base.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def __len__(self) -> int:
        first, last = self._base.execute(
            "SELECT (SELECT min(number) FROM arrival), (SELECT max(number) FROM arrival)"
        ).fetchone()
        return 0 if first is None else int(last - first + 1)

    def close(self) -> None:
        """The file stays."""
        self._base.close()


def _rest(one: Arrival) -> str:
    return json.dumps(
        {
            "way": one.way, "topic": one.topic, "origin": one.origin, "station": one.station,
            "stations": one.scope.stations, "holder": one.scope.holder, "keyless": one.scope.keyless,
            "vouched": one.scope.vouched,
            "headers": dict(one.headers), "receiver": one.receiver,
            "zone": None if one.zone is None else str(one.zone),
        }
    )  # fmt: skip


def _arrival(adapter: str, body: bytes, received_at: int, rest: str) -> Arrival:
    stored: dict[str, Any] = json.loads(rest)
    receiver: Literal["broker", "server"] = stored["receiver"]
    return Arrival(
        adapter, body, received_at, stored["way"], stored["topic"], stored["origin"], stored["station"],
        KeyScope(
            tuple(stored["stations"]), stored["holder"], stored["keyless"],
            vouched=stored.get("vouched", True),
        ), stored["headers"], receiver,
        None if stored["zone"] is None else ZoneInfo(stored["zone"]),
    )  # fmt: skip


class PatientReception:
    """Takes what devices send that do not send again: into Kafka, or on disk until Kafka is back.

    While anything waits, what comes waits behind it: a device's messages stay in order. A way in of its own,
    which empties the file.
    """

    name = "spool"

    def __init__(self, reception: Reception, file: Path, most_bytes: int) -> None:
        self._reception = reception
        self._spool = ArrivalSpool(file, most_bytes)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="spool")
        self._lock = (file.parent / f"{file.name}.lock").open("w")
        self._putting: list[tuple[Arrival, asyncio.Future[None]]] = []
        self._writer: asyncio.Task[None] | None = None
        self.waiting = len(self._spool)

    async def take(self, arrival: Arrival) -> Receipt:
        """As `Reception.take`, but where Kafka is away the receipt says `spooled`. Raises SpoolFull."""
        if not self.waiting:
            try:
                return await self._reception.take(arrival)
            except KafkaAway:
                pass
        await self._keep(arrival)
        metrics.ARRIVALS.labels(arrival.way, arrival.adapter, "spooled").inc()
        return Receipt(spooled=True)

    async def _keep(self, arrival: Arrival) -> None:
        # What comes while a commit is under way is written by the next one, together.
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._putting.append((arrival, done))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write(), name="spool-writes")
        await done

    async def _write(self) -> None:
        while self._putting:
            batch, self._putting = self._putting, []
            try:
                self.waiting = await self._run(partial(self._put, [one for one, _ in batch]))
            except Exception as error:  # noqa: BLE001  raised to each who waits
                for _, done in batch:
                    if not done.done():
                        done.set_exception(error)
                continue
            metrics.SPOOLED.set(self.waiting)
            for _, done in batch:
                if not done.done():
                    done.set_result(None)

    def _put(self, arrivals: Sequence[Arrival]) -> int:
        self._spool.put(arrivals)
        return len(self._spool)

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def serve(self) -> None:
        """Empty the file whenever Kafka is there, until cancelled."""
        warned_at = float("-inf")
        while True:
            self.waiting = await self._run(lambda: len(self._spool))
            metrics.SPOOLED.set(self.waiting)
            if not self.waiting or not self._may_empty():
                await asyncio.sleep(_PAUSE_S)
                continue
            batch = await self._run(lambda: self._spool.first(_BATCH))
            # In order: what is awaited together is sent in the order in which it is begun.
            sent = await asyncio.gather(
                *(self._send(waiting.arrival) for waiting in batch), return_exceptions=True
            )
            failed = [one for one in sent if one is not None]
            if any(not isinstance(one, KafkaAway) for one in failed):
                raise next(one for one in failed if not isinstance(one, KafkaAway))
            if failed:
                if time.monotonic() - warned_at > _WARN_EVERY_S:
                    log.warning("%d messages wait on disk for Kafka", self.waiting)
                    warned_at = time.monotonic()
                await asyncio.sleep(_PAUSE_S)
                continue
            await self._run(partial(self._spool.drop, batch[-1].number))

    async def _send(self, arrival: Arrival) -> None:
        try:
            await self._reception.take(arrival)
        except NotAllowed:  # nobody waits for the answer any more
            metrics.TURNED_AWAY.labels(arrival.way, "not_allowed").inc()

    def _may_empty(self) -> bool:
        """Whether no other gateway is just emptying the file."""
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        """The file stays, with what waits."""
        self._thread.shutdown(wait=True)
        self._spool.close()
        with contextlib.suppress(OSError):
            self._lock.close()
