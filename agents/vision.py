"""The vision stage: frames in, features out. Pixels end here.

Decoding (a thread) of the next chunk overlaps encoding (another thread) of this one; the event loop only
moves chunks. Chunks leave in the order they came, so a partition's features are in the order of its frames.
All queues are bounded: when the encoder is busy, `handle` waits, and Kafka is not read.
"""

import asyncio
import hashlib
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from aiokafka import ConsumerRecord
from numpy.typing import NDArray

from camera.errors import ImageRefused
from camera.far_band import Strip, row_profile
from camera.gate import REASONS, FrameVerdict, judge
from camera.haze import HAZE_SIZE
from camera.image import DecodedFrame, decode
from camera.sight import layout, plain_part, with_projection
from model.bundle.bundle import Bundle
from model.bundle.runtime import Encoder
from schemas.base import from_ms, to_ms
from schemas.errors import Refused
from schemas.features import Features, Punctuation, Quality
from schemas.frame import MAX_FRAME_BYTES, FrameHeader, accept_header
from schemas.station import Station
from streams import metrics
from streams.accept import (
    ORIGIN,
    PUNCTUATION_TYPE,
    Keys,
    check_time,
    code_of,
    dead_letter,
    is_punctuation,
    punctuation_at,
)
from streams.bands import BandBook
from streams.boundary import guarded, isolated
from streams.driver import Out, Publish
from streams.stations import StationBook

_LE32: Final = np.dtype("<f4")
#: Verdicts that speak of a broken camera, not of the hour or the weather …
_FAULTS: Final = ("card", "corrupt", "greyscale", "blocked")
#: … unless it is dark: then grey and empty pictures are to be expected, every night.
_DIMNESS: Final = {"night", "dark"}
#: Bytes of a replay's word on where a frame came from; it travels with the features.
_MAX_ORIGIN: Final = 4096
#: Seconds between two signs of life on the features topic while frames wait.
_BUSY_EVERY: Final = 2.0


@dataclass(frozen=True)
class _Prepared:
    """A frame that is decoded and judged."""

    header: FrameHeader
    sha256: str
    frame: DecodedFrame
    whole_part: NDArray[np.float32]
    far_part: NDArray[np.float32] | None
    #: Log contrast of the rows, while the camera has no far band.
    rows: NDArray[np.float32] | None
    verdict: FrameVerdict
    layout: str
    #: The dead letter of a frame that shows a fault of the camera; its features say so too.
    fault: Out | None
    #: Where a replay has the frame from; its features say so too.
    origin: list[tuple[str, bytes]]


@dataclass
class _Chunk:
    """Some consecutive records of one partition on their way through the pipeline."""

    stage: "VisionStage"
    records: Sequence[ConsumerRecord[bytes, bytes]]
    prepared: list[_Prepared | Out] = field(default_factory=list)


class VisionPipeline:
    """Decode, encode, publish: one for all partitions of a worker."""

    def __init__(self, bundle: Bundle, publish: Publish, *, batch: int, threads: int) -> None:
        self.bundle = bundle
        self.batch = batch
        self._publish = publish
        self._encoder = Encoder(bundle, threads=threads)
        self._decoders = ThreadPoolExecutor(1, thread_name_prefix="decode")
        self._encoders = ThreadPoolExecutor(1, thread_name_prefix="encode")
        self._raw: asyncio.Queue[_Chunk] = asyncio.Queue(2)
        self._ready: asyncio.Queue[_Chunk] = asyncio.Queue(2)
        self._tasks: list[asyncio.Task[None]] = []

    async def put(self, chunk: _Chunk) -> None:
        """Hand over a chunk; waits while the pipeline is full. Raises what broke the pipeline."""
        if not self._tasks:
            self._tasks = [asyncio.create_task(self._decode_all()), asyncio.create_task(self._encode_all())]
        waiting = asyncio.ensure_future(self._raw.put(chunk))
        await asyncio.wait([waiting, *self._tasks], return_when=asyncio.FIRST_COMPLETED)
        self.check()
        await waiting

    def check(self) -> None:
        """Raise what broke the pipeline, if anything did."""
        for task in self._tasks:
            if task.done():
                task.result()

    async def _decode_all(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            chunk = await self._raw.get()
            chunk.prepared = await loop.run_in_executor(
                self._decoders, lambda c: [c.stage.prepare(record) for record in c.records], chunk
            )
            await self._ready.put(chunk)

    async def _encode_all(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            chunk = await self._ready.get()
            metrics.INFERENCE_QUEUE.set(self._raw.qsize() + self._ready.qsize())
            out = await loop.run_in_executor(self._encoders, self._encode, chunk)
            await self._publish(out)
            chunk.stage.count(chunk.prepared)
            chunk.stage.finished(chunk.records[-1].offset + 1)

    def _encode(self, chunk: _Chunk) -> list[Out]:
        """What leaves for a chunk's records, in their order. A frame that raises is refused, alone."""
        made, failed = isolated(
            lambda part: self._together(chunk.stage.features_topic, [one for _, one in part]),
            list(enumerate(chunk.prepared)),
        )
        for (place, _), refused in failed:
            chunk.prepared[place] = chunk.stage.refuse(chunk.records[place], refused)
        features = iter([out for part in made for out in part])
        return [
            out
            for prepared in chunk.prepared
            for out in ([prepared] if isinstance(prepared, Out) else [prepared.fault, next(features)])
            if out is not None
        ]

    def _together(self, topic: str, chunk: Sequence[_Prepared | Out]) -> list[Out]:
        """The features of the frames among `chunk`."""
        usable = [p for p in chunk if isinstance(p, _Prepared) and p.verdict.usable]
        pictures = [p.frame.whole for p in usable]
        bands = [p.frame.far for p in usable if p.frame.far is not None]
        with metrics.INFERENCE_SECONDS.labels("encoder").time():
            embedded = self._encoder.encode([*pictures, *bands])
        metrics.INFERENCE_BATCH.labels("encoder").observe(len(embedded))
        wholes = iter(embedded[: len(pictures)])
        fars = iter(embedded[len(pictures) :])
        out = []
        for prepared in chunk:
            if isinstance(prepared, Out):
                continue
            embeddings = {}
            if prepared.verdict.usable:
                whole = next(wholes)
                embeddings["frame"] = whole.embedding.astype(_LE32).tobytes()
                seen = with_projection(whole.projection, prepared.whole_part)
                if prepared.far_part is not None:
                    embeddings["camera_whole"] = seen.astype(_LE32).tobytes()
                    seen = with_projection(next(fars).projection, prepared.far_part)
                embeddings["camera"] = seen.astype(_LE32).tobytes()
                if prepared.rows is not None:
                    embeddings["rows"] = prepared.rows.astype(_LE32).tobytes()
            header = prepared.header
            features = Features(
                station=header.station,
                camera=header.camera,
                captured_at=header.time,
                frame_id=header.id,
                sha256=prepared.sha256,
                bundle=self.bundle.id,
                encoder=self.bundle.encoder,
                embeddings=embeddings,
                haze=prepared.whole_part[-HAZE_SIZE:].astype(_LE32).tobytes(),
                quality=Quality(
                    usable=prepared.verdict.usable,
                    reasons=prepared.verdict.reasons,
                    scores={name: round(float(score), 4) for name, score in prepared.verdict.scores.items()},
                ),
                camera_layout=prepared.layout if embeddings else "",
                digest=prepared.verdict.digest,
            )
            out.append(
                Out(topic, header.station.encode(), features.model_dump_json().encode(), prepared.origin)
            )
        return out

    async def close(self) -> None:
        """Stop the tasks and threads."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._decoders.shutdown(wait=False, cancel_futures=True)
        self._encoders.shutdown(wait=False, cancel_futures=True)


class VisionStage:
    """Frames of one partition."""

    def __init__(
        self,
        pipeline: VisionPipeline,
        publish: Publish,
        stations: StationBook,
        bands: BandBook,
        keys: Keys,
        *,
        frames_topic: str,
        features_topic: str,
        dead_letter_topic: str,
        partition: int,
        start: int,
        waiting: Any,
    ) -> None:
        self.features_topic = features_topic
        self._pipeline = pipeline
        self._publish = publish
        self._stations = stations
        self._bands = bands
        self._keys = keys
        self._frames_topic = frames_topic
        self._dead_letter_topic = dead_letter_topic
        self._partition = partition
        self._taken = start
        self._finished = start
        #: Whether more frames than were taken lie in the log (None: not known yet).
        self._waiting = waiting
        self._busy_at = 0.0

    async def handle(self, topic: str, records: Sequence[ConsumerRecord[bytes, bytes]]) -> None:
        """Take the frames of one poll, or station records."""
        if topic == self._stations.topic:
            self._stations.apply(records)  # the fusion stage reads them too and dead-letters the unreadable
            return
        if topic == self._bands.topic:
            letters = [self.refuse(record, refused) for record, refused in self._bands.apply(records).refused]
            if letters:
                await self._publish(letters)
            return
        for start in range(0, len(records), self._pipeline.batch):
            chunk = records[start : start + self._pipeline.batch]
            await self._pipeline.put(_Chunk(self, chunk))
            self._taken = chunk[-1].offset + 1

    def refuse(self, record: ConsumerRecord[bytes, bytes], refused: Refused) -> Out:
        """The dead letter of a record."""
        return dead_letter(self._dead_letter_topic, "vision", record, refused)

    def prepare(self, record: ConsumerRecord[bytes, bytes]) -> _Prepared | Out:
        """Decode and judge one record, in the decoding thread; what is no frame becomes a record to send."""
        prepared = guarded(lambda: self._prepare(record))
        return self.refuse(record, prepared) if isinstance(prepared, Refused) else prepared

    def _prepare(self, record: ConsumerRecord[bytes, bytes]) -> _Prepared | Out:
        if is_punctuation(record):
            at = punctuation_at(record)
            what = Punctuation(kind="busy") if at is None else Punctuation(kind="watermark", at=from_ms(at))
            return punctuation(self.features_topic, self._partition, what)
        width, height = (
            self._pipeline.bundle.manifest.input.width,
            self._pipeline.bundle.manifest.input.height,
        )
        header = accept_header(record.headers)
        self._keys.check(record, header.station)
        check_time(to_ms(header.time), record)
        if record.value is None:
            raise Refused("empty", "the record has no value: the frame's bytes are missing")
        if len(record.value) > MAX_FRAME_BYTES:
            raise Refused(
                "too_large",
                f"a frame of {len(record.value)} bytes; the limit is {MAX_FRAME_BYTES}: scale it down",
            )
        station = self._stations.get(header.station)
        band = self._far_band(station, header)
        try:
            frame = decode(record.value, width, height, band)
        except ImageRefused as refused:
            raise Refused(refused.code, str(refused)) from refused
        position = None
        if station is not None and station.latitude is not None and station.longitude is not None:
            position = (station.latitude, station.longitude)
        verdict = judge(frame, to_ms(header.time), position)
        fault = None
        found = [reason for reason in verdict.reasons if reason in _FAULTS]
        if found and not _DIMNESS & set(verdict.reasons):
            words = "; ".join(REASONS[reason] for reason in found)
            fault = self.refuse(
                record, Refused(found[0], f"camera {header.camera} of {header.station}: {words}")
            )
        return _Prepared(
            header=header,
            sha256=hashlib.sha256(record.value).hexdigest(),
            frame=frame,
            whole_part=plain_part(frame.whole),
            far_part=None if frame.far is None else plain_part(frame.far),
            rows=row_profile(frame.luminance) if band is None else None,
            verdict=verdict,
            layout=layout(band),
            fault=fault,
            origin=[
                (name, raw)
                for name, raw in record.headers
                if name == ORIGIN and raw is not None and len(raw) <= _MAX_ORIGIN
            ][:1],
        )

    def _far_band(self, station: Station | None, header: FrameHeader) -> Strip | None:
        """The band that the station's record sets; otherwise the one that was found."""
        band = self._bands.get(header.station, header.camera)
        for known in station.cameras if station else ():
            if known.camera == header.camera and known.far_band is not None:
                band = known.far_band
        return None if band is None else Strip(band.top, band.bottom, band.left, band.right)

    def count(self, prepared: Sequence[_Prepared | Out]) -> None:
        """Add a chunk that is out to the metrics."""
        for one in prepared:
            if isinstance(one, _Prepared) and one.fault is not None:
                metrics.DEAD_LETTERS.labels("vision", code_of(one.fault)).inc()
            if isinstance(one, _Prepared):
                reasons = one.verdict.reasons or ("usable",)
                metrics.FRAMES.labels(reasons[0]).inc()
                metrics.MESSAGES.labels(self._frames_topic, "used").inc()
            elif one.topic == self._dead_letter_topic:
                metrics.DEAD_LETTERS.labels("vision", code_of(one)).inc()
                metrics.MESSAGES.labels(self._frames_topic, "refused").inc()

    def finished(self, offset: int) -> None:
        """Everything before `offset` is published and confirmed."""
        self._finished = max(self._finished, offset)

    async def tick(self) -> None:
        """While frames wait, tell the join that this camera side is slow, not silent."""
        self._pipeline.check()
        now = time.monotonic()
        if now - self._busy_at < _BUSY_EVERY:
            return
        if self._finished < self._taken or self._waiting(self._taken):
            self._busy_at = now
            await self._publish([punctuation(self.features_topic, self._partition, Punctuation(kind="busy"))])

    async def settle(self) -> Mapping[str, tuple[int, str]]:
        """Offsets up to which features are out and confirmed."""
        self._pipeline.check()
        return {
            self._frames_topic: (self._finished, ""),
            **self._stations.settled(),
            **self._bands.settled(),
        }

    def committed(self) -> None:
        """Nothing hangs on a commit here."""

    def paused(self) -> set[str]:
        """Never: `handle` waits instead."""
        return set()

    async def close(self) -> None:
        """Nothing is held here; chunks on their way are published and not committed."""


def punctuation(topic: str, partition: int, what: Punctuation) -> Out:
    """The record that carries progress without data."""
    value = what.model_dump_json().encode()
    return Out(topic, None, value, [("ce_type", PUNCTUATION_TYPE)], partition)
