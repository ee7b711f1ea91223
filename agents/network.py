"""The network stage: stations by themselves in, what their region says of them out.

Thin: records become entries, the meeting (pure) says in a thread what is to be published, and everything is
confirmed before any offset settles. What a region has learned is stored once an hour of event time, in pieces
that fit their topic.
"""

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np

from agents.regions import BEHIND, REGION
from aqi import standards
from aqi.errors import AqiError
from aqi.history import History
from fusion.conclusion import Counts
from fusion.together.cameras import sight_of
from fusion.together.learning import LEARNED, Learned
from fusion.together.meeting import Amended, LoggedRecord, Meeting, MeetingOutput, RetiredStation
from model.bundle.persistence import PERSISTENCE
from schemas.alone import MARK_TYPE, Alone, Mark
from schemas.amendment import Amendment
from schemas.base import format_time, to_ms
from schemas.errors import ArrayError, DamagedState, Refused
from schemas.estimate import check_size
from schemas.times import DAY_MS
from streams import metrics
from streams.accept import MAX_CLOSING_MS, Keys, check_key, is_amendment
from streams.checkpoint import AT, Checkpoints
from streams.letters import Letters
from streams.stage import KafkaRecord, Out, StageIo
from streams.topics import ALONE, ESTIMATES, NETWORK_STATE

log = logging.getLogger(__name__)

#: Bytes of a piece of what is stored of a region.
_PIECE: Final = 1024 * 1024
#: Bytes of an estimate's record beside its value.
_ROOM: Final = 4096
_LONGEST_PERIOD_MS: Final = DAY_MS
#: No part of a camera vector is larger.
_LARGEST: Final = 1e6
#: Entries that are worked on at a time: what they make is published before the next.
_PORTION: Final = 2_000
#: By region the horizon (ms) of what it has learned, and that.
StoredRegions = Mapping[str, tuple[int, Learned]]


class StatePiece(NamedTuple):
    """A part of what is stored of a region: of how many, and its bytes."""

    of: int
    data: bytes


class NetworkStage:
    """The regions of one partition."""

    def __init__(
        self, io: StageIo, meeting: Meeting, keys: Keys, checkpoints: Checkpoints, executor: Executor
    ) -> None:
        self._io = io
        self.meeting = meeting
        self._keys = keys
        self._checkpoints = checkpoints
        self._executor = executor
        self._topic = io.names.of(ALONE)
        self._estimates_topic = io.names.of(ESTIMATES)
        #: By region, the horizon that is stored, or about to be.
        self._stored: dict[str, int] = {}

    def _now(self) -> int:
        return int(self._io.clock() * 1000)

    async def handle(self, topic: str, records: Sequence[KafkaRecord]) -> None:
        """Take the records of one poll."""
        assert topic == self._topic, f"{topic} is not what this stage reads"
        letters = Letters(self._io.names, "network")
        entries = []
        for record in records:
            content = letters.read(record, lambda record=record: self._content(record))  # type: ignore[misc]
            if content is not None:
                entries.append(LoggedRecord(record.offset, content))
        letters.count(records)
        await self._io.publish(letters.out())
        loop = asyncio.get_running_loop()
        for start in range(0, len(entries), _PORTION):
            part = entries[start : start + _PORTION]
            met = await loop.run_in_executor(
                self._executor, self.meeting.feed, part, part[-1].offset + 1, self._now()
            )
            await self._publish(met)
        met = await loop.run_in_executor(
            self._executor, self.meeting.feed, [], records[-1].offset + 1, self._now()
        )
        await self._publish(met)

    def _content(self, record: KafkaRecord) -> Alone | Mark | Amended | RetiredStation:
        """What a record says. Raises Refused, ValidationError."""
        headers = dict(record.headers)
        if headers.get("ce_type") == MARK_TYPE:
            mark = Mark.model_validate_json(record.value or b"")
            _check_time(mark.final, record)
            return mark
        if record.value is None:
            check_key(record, (record.key or b"").decode(errors="replace"), "station")
            region = headers.get(REGION)
            return RetiredStation(
                (record.key or b"").decode(), _behind(headers), None if region is None else region.decode()
            )
        if is_amendment(record):
            amendment = Amendment.model_validate_json(record.value)
            check_key(record, amendment.station, "station")
            return Amended((headers.get(REGION) or b"").decode(), _behind(headers), amendment)
        alone = Alone.model_validate_json(record.value)
        estimate = alone.estimate
        check_key(record, estimate.station, "station")
        check_size(estimate)
        if self._keys.partition(alone.region) != record.partition:
            raise Refused("wrong_partition", f"region {alone.region!r} meets on another partition")
        start, end = to_ms(estimate.window.start), to_ms(estimate.window.end)
        size = self.meeting.rules.size
        if end - start != size or end % size:
            raise Refused(
                "other_window", f"{format_time(estimate.window.end)} ends no window of {size // 1000} s"
            )
        _check_time(end, record)
        check_alone(alone, size)
        return alone

    async def _publish(self, met: MeetingOutput) -> None:
        out = []
        for estimate in met.estimates:
            body = estimate.model_dump_json().encode()
            if len(body) > ESTIMATES.max_bytes - _ROOM:
                log.error("an estimate of %s has %d bytes and is left out", estimate.station, len(body))
                metrics.NETWORK_WINDOWS.labels("too_large").inc()
                continue
            out.append(Out(self._estimates_topic, estimate.station.encode(), body))
            for pollutant in estimate.pollutants.values():
                if pollutant.kind == "imputed":
                    metrics.NETWORK_IMPUTED.labels(pollutant.method).inc()
        for refused in met.failed:
            log.error("a window of a region is published as its stations have it: %s", refused)
        metrics.NETWORK_WINDOWS.labels("published").inc(len(met.estimates))
        metrics.NETWORK_WINDOWS.labels("late").inc(met.late)
        metrics.NETWORK_WINDOWS.labels("failed").inc(len(met.failed))
        if out:
            await self._io.publish(out)

    async def tick(self) -> None:
        """Let processing time pass: sources may become idle."""
        await self._publish(
            await asyncio.get_running_loop().run_in_executor(self._executor, self.meeting.tick, self._now())
        )

    async def settle(self) -> Mapping[str, tuple[int, str]]:
        """Write the checkpoints that go with the settled offset, then give that offset."""
        changed = {
            region: at for region, at in self.meeting.horizons().items() if self._stored.get(region) != at
        }
        for region, at in changed.items():
            data = await asyncio.get_running_loop().run_in_executor(
                self._executor, self.meeting.dump, region, at
            )
            pieces = in_pieces(region, data)
            written = self._checkpoints.write(
                dict.fromkeys(pieces, at),
                lambda name, _, pieces=pieces: pieces[name],  # type: ignore[misc]
            )
            await self._io.publish(written)
            self._stored[region] = at
        stand = self.meeting.settled()
        return {self._topic: (stand.offset, stand.metadata())}

    def committed(self) -> None:
        """The checkpoints written last go with what is committed."""
        self._checkpoints.committed()

    def paused(self) -> set[str]:
        """Never: all sources lie on one topic, and who is behind is on it."""
        return set()

    async def close(self) -> None:
        """State lives in this object only: dropping it is all."""


def check_alone(alone: Alone, size: int) -> None:
    """Refused for what cannot be counted in a window of `size` ms: one shall not silence its region."""
    end = to_ms(alone.estimate.window.end)
    for name, one in alone.estimate.pollutants.items():
        if one.kind == "imputed" and one.method not in PERSISTENCE:
            raise Refused("unknown_method", f"{name} was imputed by {one.method[:64]!r}, which is no method")
        if one.since is not None and not end - _LONGEST_PERIOD_MS <= to_ms(one.since) <= end:
            raise Refused("other_period", f"{name} is the mean of a period that does not end in its window")
    if (shown := sight_of(alone)) is not None:
        try:
            shown.check()
        except ArrayError as error:
            raise Refused("wrong_size", f"what its camera shows: {error}") from error
        if np.abs(shown.vector).max() > _LARGEST:
            raise Refused("out_of_range", f"what its camera shows is beyond {_LARGEST:g}, as no picture is")
    try:
        for standard in alone.standards:
            standards.load(standard, at_ms=end)
        empty = History.empty(48, alone.reference_celsius)
        Counts.of(alone.estimate.pollutants, end, size).into(empty, end, size)
    except AqiError as error:
        raise Refused("uncountable", str(error)) from error


def in_pieces(region: str, data: bytes) -> dict[str, bytes]:
    """What is stored of a region, by the name of each piece."""
    parts = [data[start : start + _PIECE] for start in range(0, len(data), _PIECE)]
    return {
        f"{region}|{number}": msgspec.msgpack.encode(StatePiece(len(parts), part))
        for number, part in enumerate(parts)
    }


def read_piece(name: str, data: bytes) -> StatePiece:
    """A piece of what is stored. Raises DamagedState."""
    try:
        return msgspec.msgpack.decode(data, type=StatePiece)
    except msgspec.MsgspecError as error:
        raise DamagedState(f"the piece {name} of a region cannot be read: {error!r}") from error


def put_together(pieces: Mapping[str, tuple[int, StatePiece]]) -> dict[str, tuple[int, Learned]]:
    """By region the horizon and the state of pieces; one that is not whole begins anew. Raises NewerState."""
    found = {}
    for name, (at, first) in sorted(pieces.items()):
        region, _, number = name.rpartition("|")
        if number != "0":
            continue
        try:
            parts = [pieces.get(f"{region}|{index}") for index in range(first.of)]
            whole = [part[1].data for part in parts if part is not None and part[0] == at]
            if len(whole) < first.of:
                raise DamagedState("some of its pieces are missing")
            found[region] = at, LEARNED.decode(b"".join(whole)).learned()
        except DamagedState as error:
            metrics.STATE_DAMAGED.labels(NETWORK_STATE.name).inc()
            log.error("what region %r has learned cannot be read, it begins anew: %s", region, error)
    return found


def stored_regions(records: Iterable[Any]) -> StoredRegions:
    """Of the state's records (kafka-python's), by region the newest horizon that is whole, and what it says.

    A stage that writes at this moment has stored a part of the next horizon: that does not count yet.
    Raises NewerState.
    """
    newest_by_key: dict[bytes, Any] = {}
    for record in records:
        newest_by_key[record.key] = record
    pieces: dict[str, dict[int, dict[str, tuple[int, StatePiece]]]] = {}
    for record in newest_by_key.values():
        name, _, _slot = record.key.decode(errors="replace").rpartition("#")
        try:
            at = int(dict(record.headers)[AT])
            piece = read_piece(name, record.value)
        except (KeyError, ValueError, TypeError, DamagedState):
            continue  # the stage itself says so loudly
        region = name.rpartition("|")[0]
        pieces.setdefault(region, {}).setdefault(at, {})[name] = at, piece
    found: dict[str, tuple[int, Learned]] = {}
    for region, by_horizon in sorted(pieces.items()):
        for _at, there in sorted(by_horizon.items(), reverse=True):
            first = there.get(f"{region}|0")
            if first is None or len(there) < first[1].of:
                continue
            whole = put_together(there)
            if region in whole:
                found[region] = whole[region]
                break
    return found


def _behind(headers: Mapping[str, bytes | None]) -> int:
    text = (headers.get(BEHIND) or b"").decode(errors="replace")
    if not text.removeprefix("-").isdecimal():
        raise Refused("no_time", f"the header {BEHIND} says behind which window it stands, in ms")
    return int(text)


def _check_time(time_ms: int, record: KafkaRecord) -> None:
    if 0 <= record.timestamp < time_ms - MAX_CLOSING_MS:
        raise Refused("future_time", "its time is more than a day ahead of the broker's clock")
