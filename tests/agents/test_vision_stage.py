"""Up to which frame a vision worker's work is settled: never one that is not out and confirmed."""

import asyncio
from collections.abc import Iterable

import pytest

from agents.vision import VisionPipeline, VisionStage
from streams import topics
from streams.bands import BandBook
from streams.errors import DeliveryError
from streams.stage import Out, StageIo
from tests.agents.strangers import NOW
from tests.agents.test_boundary import Log, bundle, keys, station_book


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

        pipeline = VisionPipeline(bundle(), batch=3, threads=1)
        stage = VisionStage(
            StageIo(0, publish), pipeline, station_book(), BandBook(topics.CAMERA_BANDS.name, keys()),
            lambda _: False,
        )  # fmt: skip

        async def settled() -> int:
            return (await stage.settle())[topics.FRAMES.name][0]

        await stage.handle(topics.FRAMES.name, frames)
        for chunk in (3, 6, 7):
            async with asyncio.timeout(60):
                await asked.acquire()
            assert await settled() == len(out), "what is on its way is not settled"
            confirmed.release()
            async with asyncio.timeout(60):
                await told.acquire()
            assert await settled() == chunk
        pipeline.close()
        assert len(out) == len(frames)

    asyncio.run(story())


def test_what_was_not_confirmed_stops_the_stage_and_settles_nothing_behind_it() -> None:
    log = Log()
    frames = [log.record(topics.FRAMES, b"s", b"no picture", timestamp=NOW) for _ in range(60)]

    async def story() -> None:
        sent = 0

        async def publish(records: Iterable[Out], /) -> None:
            nonlocal sent
            sent += len(list(records))
            if sent > 3:
                raise DeliveryError("the broker is gone")

        pipeline = VisionPipeline(bundle(), batch=3, threads=1)
        stage = VisionStage(
            StageIo(0, publish), pipeline, station_book(), BandBook(topics.CAMERA_BANDS.name, keys()),
            lambda _: False,
        )  # fmt: skip
        with pytest.raises(DeliveryError):
            async with asyncio.timeout(60):
                await stage.handle(topics.FRAMES.name, frames)
        for ask in (stage.tick, stage.settle):
            with pytest.raises(DeliveryError):
                await ask()
        assert sent == 6, "what comes after it stays behind"
        await stage.close()
        pipeline.close()

    asyncio.run(story())
