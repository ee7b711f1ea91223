"""Up to which frame a vision worker's work is settled: never one that is not out and confirmed."""

import asyncio
from collections.abc import Iterable

from agents.vision import VisionPipeline, VisionStage
from streams import topics
from streams.bands import BandBook
from streams.driver import Out
from tests.agents.test_boundary import NOW, Log, bundle, keys, station_book


def test_frames_are_settled_when_what_was_made_of_them_is_confirmed_and_no_sooner() -> None:
    log = Log()
    frames = [log.record(topics.FRAMES, b"s", b"no picture", timestamp=NOW) for _ in range(7)]

    async def story() -> None:
        asked, confirmed, told = asyncio.Semaphore(0), asyncio.Semaphore(0), asyncio.Semaphore(0)
        out: list[Out] = []

        async def publish(records: Iterable[Out], /) -> None:
            asked.release()
            await confirmed.acquire()
            out.extend(records)
            told.release()

        pipeline = VisionPipeline(bundle(), publish, batch=3, threads=1)
        stage = VisionStage(
            pipeline, publish, station_book(), BandBook(topics.CAMERA_BANDS.name, keys()), keys(),
            frames_topic=topics.FRAMES.name, features_topic=topics.FEATURES.name,
            dead_letter_topic=topics.DEAD_LETTERS.name, partition=0, start=0, waiting=lambda _: False,
        )  # fmt: skip

        async def settled() -> int:
            return (await stage.settle())[topics.FRAMES.name][0]

        await stage.handle(topics.FRAMES.name, frames)
        for chunk in (3, 6, 7):
            async with asyncio.timeout(30):
                await asked.acquire()
            assert await settled() == len(out), "what is on its way is not settled"
            confirmed.release()
            async with asyncio.timeout(30):
                await told.acquire()
            assert await settled() == chunk
        await pipeline.close()
        assert len(out) == len(frames)

    asyncio.run(story())
