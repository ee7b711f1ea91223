"""The vision stage: frames in, features out. Pixels end here.

Decoding (a thread) of the next chunk overlaps encoding (another thread) of this one; the event loop only
moves chunks. Chunks leave in the order they came, so a partition's features are in the order of its frames.
All queues are bounded: when the encoder is busy, `handle` waits, and Kafka is not read.
"""

import asyncio
import hashlib
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from camera.errors import ImageRefused
from camera.far_band import Strip, row_profile
from camera.gate import REASONS, FrameVerdict, judge
from camera.haze import HAZE_SIZE
from camera.image import DecodedFrame, decode
from camera.picture_file import may_show
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
    check_time,
    dead_letter,
    is_punctuation,
    punctuation_at,
)
from streams.bands import BandBook
from streams.boundary import guarded, isolated
from streams.stage import KafkaRecord, Out, StageIo
from streams.stations import StationBook
from streams.topics import DEAD_LETTERS, FEATURES, FRAMES

_LE32: Final = np.dtype("<f4")
#: Verdicts that speak of a broken camera, not of the hour or the weather …
_FAULTS: Final = ("card", "corrupt", "greyscale", "blocked")
#: … unless it is dark: then grey and empty pictures are to be expected, every night.
_DIMNESS: Final = {"night", "dark"}
#: Bytes of a replay's word on where a frame came from; it travels with the features.
_MAX_ORIGIN: Final = 4096
#: Seconds between two signs of life on the features topic while frames wait.
_BUSY_EVERY: Final = 2.0
#: Chunks between the two threads and in them, of all partitions; and of one partition, until they are out.
_CHUNKS: Final = 6
_LEAVING: Final = 8


@dataclass(frozen=True)
class Judged:
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
    #: Why a frame that shows a fault of the camera is a dead letter too; its features say so as well.
    fault: Refused | None
    #: Where a replay has the frame from; its features say so too.
    origin: list[tuple[str, bytes]]


@dataclass(frozen=True)
class Encoded:
    """A frame, and what the encoder made of it."""

    judged: Judged
    features: Features


#: What becomes of a record in the decoding thread, and after that in the encoding one.
AfterDecoding = Judged | Punctuation | Refused
AfterEncoding = Encoded | Punctuation | Refused


class VisionPipeline:
    """Decode and encode: one for all partitions of a worker.

    It knows no stage: it is given records and how one is decoded, and gives back what they came to.
    """

    def __init__(self, bundle: Bundle, *, batch: int, threads: int) -> None:
        self.bundle = bundle
        self.batch = batch
        self._encoder = Encoder(bundle, threads=threads)
        self._decoders = ThreadPoolExecutor(1, thread_name_prefix="decode")
        self._encoders = ThreadPoolExecutor(1, thread_name_prefix="encode")
        self._room = asyncio.Semaphore(_CHUNKS)
        self._inside = 0

    async def put(
        self, records: Sequence[KafkaRecord], decode_one: Callable[[KafkaRecord], AfterDecoding]
    ) -> "asyncio.Task[list[AfterEncoding]]":
        """Begin a chunk; waits while the pipeline is full. The task has the outcomes, in the records' order.

        Chunks are done in the order in which they were put: each of the two threads takes its work in turn.
        """
        await self._room.acquire()
        return asyncio.create_task(self._through(records, decode_one))

    async def _through(
        self, records: Sequence[KafkaRecord], decode_one: Callable[[KafkaRecord], AfterDecoding]
    ) -> list[AfterEncoding]:
        loop = asyncio.get_running_loop()
        self._inside += 1
        try:
            decoded = await loop.run_in_executor(
                self._decoders, lambda: [decode_one(record) for record in records]
            )
            return await loop.run_in_executor(self._encoders, self._encode, decoded)
        finally:
            self._inside -= 1
            metrics.INFERENCE_QUEUE.set(self._inside)
            self._room.release()

    def _encode(self, decoded: Sequence[AfterDecoding]) -> list[AfterEncoding]:
        """What a chunk's records came to. A frame that raises is refused, alone."""
        frames = [(place, one) for place, one in enumerate(decoded) if isinstance(one, Judged)]
        made, failed = isolated(lambda part: self._together([one for _, one in part]), frames)
        why = {place: refused for (place, _), refused in failed}
        features = iter([one for part in made for one in part])
        return [
            one if not isinstance(one, Judged) else why.get(place) or Encoded(one, next(features))
            for place, one in enumerate(decoded)
        ]

    def _together(self, frames: Sequence[Judged]) -> list[Features]:
        """The features of some frames."""
        usable = [one for one in frames if one.verdict.usable]
        pictures = [one.frame.whole for one in usable]
        bands = [one.frame.far for one in usable if one.frame.far is not None]
        with metrics.INFERENCE_SECONDS.labels("encoder").time():
            embedded = self._encoder.encode([*pictures, *bands])
        metrics.INFERENCE_BATCH.labels("encoder").observe(len(embedded))
        wholes = iter(embedded[: len(pictures)])
        fars = iter(embedded[len(pictures) :])
        made = []
        for judged in frames:
            embeddings = {}
            if judged.verdict.usable:
                whole = next(wholes)
                embeddings["frame"] = whole.embedding.astype(_LE32).tobytes()
                seen = with_projection(whole.projection, judged.whole_part)
                if judged.far_part is not None:
                    embeddings["camera_whole"] = seen.astype(_LE32).tobytes()
                    seen = with_projection(next(fars).projection, judged.far_part)
                embeddings["camera"] = seen.astype(_LE32).tobytes()
                if judged.rows is not None:
                    embeddings["rows"] = judged.rows.astype(_LE32).tobytes()
            made.append(self._features(judged, embeddings))
        return made

    def _features(self, judged: Judged, embeddings: dict[str, bytes]) -> Features:
        header, verdict = judged.header, judged.verdict
        return Features(
            station=header.station,
            camera=header.camera,
            captured_at=header.time,
            frame_id=header.id,
            sha256=judged.sha256,
            bundle=self.bundle.id,
            encoder=self.bundle.encoder,
            embeddings=embeddings,
            haze=judged.whole_part[-HAZE_SIZE:].astype(_LE32).tobytes(),
            quality=Quality(
                usable=verdict.usable,
                reasons=verdict.reasons,
                scores={name: round(float(score), 4) for name, score in verdict.scores.items()},
            ),
            camera_layout=judged.layout if embeddings else "",
            digest=verdict.digest,
        )

    def close(self) -> None:
        """Stop the threads."""
        self._decoders.shutdown(wait=False, cancel_futures=True)
        self._encoders.shutdown(wait=False, cancel_futures=True)


class VisionStage:
    """Frames of one partition.

    `waiting` says whether frames from an offset on wait to be read.
    """

    def __init__(
        self,
        io: StageIo,
        pipeline: VisionPipeline,
        stations: StationBook,
        bands: BandBook,
        waiting: Callable[[int], bool],
    ) -> None:
        self._io = io
        self._pipeline = pipeline
        self._stations = stations
        self._bands = bands
        self._keys = stations.keys
        self._frames_topic = io.names.of(FRAMES)
        self._features_topic = io.names.of(FEATURES)
        self._taken, _ = io.start(FRAMES)
        self._finished = self._taken
        self._waiting = waiting
        self._busy_at = 0.0
        #: The chunks on their way, the oldest first. One that failed stays, and all behind it.
        self._leaving: deque[asyncio.Task[None]] = deque()

    async def handle(self, topic: str, records: Sequence[KafkaRecord]) -> None:
        """Take the frames of one poll, or station records."""
        if topic == self._stations.topic:
            self._stations.apply(records)  # the fusion stage reads them too and dead-letters the unreadable
            return
        if topic == self._bands.topic:
            letters = [self._letter(record, why) for record, why in self._bands.apply(records).refused]
            if letters:
                await self._io.publish(letters)
            return
        for start in range(0, len(records), self._pipeline.batch):
            if len(self._leaving) >= _LEAVING:
                await asyncio.wait([self._leaving[0]])
            self._check()
            chunk = records[start : start + self._pipeline.batch]
            outcomes = await self._pipeline.put(chunk, self._decode)
            before = self._leaving[-1] if self._leaving else None
            self._leaving.append(asyncio.create_task(self._leave(chunk, outcomes, before)))
            self._taken = chunk[-1].offset + 1

    async def _leave(
        self,
        records: Sequence[KafkaRecord],
        outcomes: "asyncio.Task[list[AfterEncoding]]",
        before: "asyncio.Task[None] | None",
    ) -> None:
        """Send what a chunk came to, when the one `before` it is confirmed."""
        found = await outcomes
        if before is not None:
            await before
        both = zip(records, found, strict=True)
        await self._io.publish([out for record, outcome in both for out in self._out(record, outcome)])
        for outcome in found:
            self._count(outcome)
        self._finished = max(self._finished, records[-1].offset + 1)
        self._leaving.popleft()

    def _check(self) -> None:
        """Raise what went wrong with a chunk, if anything did."""
        if self._leaving and self._leaving[0].done():
            self._leaving[0].result()

    def _letter(self, record: KafkaRecord, refused: Refused) -> Out:
        """Why a record was refused. No picture is copied: it stays on its topic, as long as frames do."""
        letter = dead_letter(self._io.names.of(DEAD_LETTERS), "vision", record, refused)
        picture = record.topic == self._frames_topic and record.value and may_show(record.value)
        return replace(letter, value=None) if picture else letter

    def _out(self, record: KafkaRecord, outcome: AfterEncoding) -> list[Out]:
        """What leaves for a record."""
        if isinstance(outcome, Refused):
            return [self._letter(record, outcome)]
        if isinstance(outcome, Punctuation):
            return [punctuation(self._features_topic, self._io.partition, outcome)]
        judged, features = outcome.judged, outcome.features
        key, value = features.station.encode(), features.model_dump_json().encode()
        fault = [] if judged.fault is None else [self._letter(record, judged.fault)]
        return [*fault, Out(self._features_topic, key, value, judged.origin)]

    def _decode(self, record: KafkaRecord) -> AfterDecoding:
        """Decode and judge one record, in the decoding thread."""
        return guarded(lambda: self._judged(record))

    def _judged(self, record: KafkaRecord) -> Judged | Punctuation:
        if is_punctuation(record):
            at = punctuation_at(record)
            return Punctuation(kind="busy") if at is None else Punctuation(kind="watermark", at=from_ms(at))
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
        newest = self._stations.get(header.station)
        station = None if newest is None else newest.at(to_ms(header.time))
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
            fault = Refused(found[0], f"camera {header.camera} of {header.station}: {words}")
        return Judged(
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

    def _count(self, outcome: AfterEncoding) -> None:
        """Add what is out to the metrics."""
        if isinstance(outcome, Encoded):
            if outcome.judged.fault is not None:
                metrics.DEAD_LETTERS.labels("vision", outcome.judged.fault.code).inc()
            reasons = outcome.judged.verdict.reasons or ("usable",)
            metrics.FRAMES.labels(reasons[0]).inc()
            metrics.MESSAGES.labels(self._frames_topic, "used").inc()
        elif isinstance(outcome, Refused):
            metrics.DEAD_LETTERS.labels("vision", outcome.code).inc()
            metrics.MESSAGES.labels(self._frames_topic, "refused").inc()

    async def tick(self) -> None:
        """While frames wait, tell the join that this camera side is slow, not silent."""
        self._check()
        now = time.monotonic()
        if now - self._busy_at < _BUSY_EVERY:
            return
        if self._finished < self._taken or self._waiting(self._taken):
            self._busy_at = now
            busy = Punctuation(kind="busy")
            await self._io.publish([punctuation(self._features_topic, self._io.partition, busy)])

    async def settle(self) -> Mapping[str, tuple[int, str]]:
        """Offsets up to which features are out and confirmed."""
        self._check()
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
        """Let go of the chunks on their way: they are not committed, and will be read again."""
        for task in self._leaving:
            task.cancel()
        await asyncio.gather(*self._leaving, return_exceptions=True)


def punctuation(topic: str, partition: int, what: Punctuation) -> Out:
    """The record that carries progress without data."""
    value = what.model_dump_json().encode()
    return Out(topic, None, value, [("ce_type", PUNCTUATION_TYPE)], partition)
