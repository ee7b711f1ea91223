"""The vision stage against a bare loop of decode and ONNX Runtime, over the same frames.

The stage does more (headers, keys, quality gate, haze, features as JSON, a pipeline that publishes); the bare
loop decodes, judges and encodes in one thread each, as fast as it can. Publishing goes to memory in both, so
that the figure is of the stage, not of the broker.
"""

import argparse
import asyncio
import io
import random
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import numpy as np
from aiokafka import ConsumerRecord
from PIL import Image, ImageDraw

from agents.vision import VisionPipeline, VisionStage
from benchmarks._kafka import verdict
from camera.gate import judge
from camera.haze import haze
from camera.image import decode
from model.bundle.bundle import Bundle
from model.bundle.runtime import Encoder
from schemas.base import from_ms
from schemas.frame import FrameHeader
from streams.accept import Keys
from streams.bands import BandBook
from streams.stage import Out, StageIo
from streams.stations import StationBook
from streams.topics import CAMERA_BANDS, FEATURES, FRAMES, STATIONS

#: Arguments of a run of seconds, for the test that runs every benchmark.
SMALL: Final = ("--rounds", "1", "--frames", "40")

NOON = 1_750_248_000_000
CHUNK = 8


def picture(seed: int) -> bytes:
    """A 640 x 360 JPEG of coloured blocks with grain."""
    dice = random.Random(seed)
    image = Image.new("RGB", (640, 360), (200, 215, 235))
    draw = ImageDraw.Draw(image)
    for _ in range(120):
        x, y = dice.randrange(640), dice.randrange(100, 360)
        colour = tuple(dice.randrange(20, 255) for _ in range(3))
        draw.rectangle([x, y, x + dice.randrange(8, 60), y + dice.randrange(8, 80)], fill=colour)
    grain = np.random.default_rng(seed).integers(-6, 7, (360, 640, 3))
    buffer = io.BytesIO()
    pixels = np.clip(np.asarray(image, dtype=np.int16) + grain, 0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def records(count: int) -> list[ConsumerRecord[bytes, bytes]]:
    """Frames of one camera, a second apart."""
    pictures = [picture(seed) for seed in range(32)]
    made = []
    for offset in range(count):
        at = NOON + offset * 1000
        header = FrameHeader(id=str(offset), source="/bench", time=from_ms(at), station="bench")
        data = pictures[offset % len(pictures)]
        made.append(
            ConsumerRecord(
                "frames",
                0,
                offset,
                at + 500,
                1,
                b"bench",
                data,
                None,
                5,
                len(data),
                tuple(header.to_headers()),
            )
        )
    return made


def bare(bundle: Bundle, frames: Sequence[Any]) -> float:
    """Frames/s: the next chunk is decoded in a thread while this one is encoded in another."""
    encoder = Encoder(bundle)
    size = bundle.manifest.input

    def prepare(chunk: Sequence[Any]) -> list[Any]:
        made = []
        for record in chunk:
            frame = decode(record.value, size.width, size.height)
            judge(frame, record.timestamp)
            haze(frame.whole)
            made.append(frame.whole)
        return made

    chunks = [frames[start : start + CHUNK] for start in range(0, len(frames), CHUNK)]
    with ThreadPoolExecutor(1) as decoder:
        began = time.perf_counter()
        ahead = decoder.submit(prepare, chunks[0])
        for following in [*chunks[1:], None]:
            ready = ahead.result()
            if following is not None:
                ahead = decoder.submit(prepare, following)
            encoder.encode(ready)
        return len(frames) / (time.perf_counter() - began)


async def stage(bundle: Bundle, frames: Sequence[Any]) -> float:
    """Frames/s through the stage as a worker has it."""
    left = len(frames)
    done = asyncio.Event()

    async def publish(out: Iterable[Out]) -> None:
        nonlocal left
        left -= sum(1 for record in out if record.topic == FEATURES.name)
        if left <= 0:
            done.set()

    pipeline = VisionPipeline(bundle, batch=CHUNK, threads=1)
    keys = Keys(1)
    vision = VisionStage(
        StageIo(0, publish), pipeline, StationBook(STATIONS.name, keys), BandBook(CAMERA_BANDS.name, keys),
        lambda _: False,
    )  # fmt: skip
    began = time.perf_counter()
    for start in range(0, len(frames), 64):
        await vision.handle(FRAMES.name, frames[start : start + 64])
    await done.wait()
    seconds = time.perf_counter() - began
    pipeline.close()
    return len(frames) / seconds


def main(argv: list[str] | None = None) -> int:
    """Prints a line per round and ends in one JSON line."""
    parser = argparse.ArgumentParser(prog="bench vision", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--frames", type=int, default=400)
    arguments = parser.parse_args(argv)
    bundle = Bundle.load()
    frames = records(arguments.frames)
    bare(bundle, frames[:64])  # warm
    ratios, ours, theirs = [], [], []
    for _ in range(arguments.rounds):
        theirs.append(bare(bundle, frames))
        ours.append(asyncio.run(stage(bundle, frames)))
        ratios.append(ours[-1] / theirs[-1])
        print(
            f"stage {ours[-1]:6.1f} frames/s   bare {theirs[-1]:6.1f} frames/s   ratio {ratios[-1]:.2f}",
            flush=True,
        )
    middle = sorted(ratios)[len(ratios) // 2]
    verdict("vision", max(ours), "frames/s", max(theirs), middle, rounds=arguments.rounds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
