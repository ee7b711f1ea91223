"""Cameras are asked at their cadence; repeated pictures are known; faults become states, and end."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from camera.sun import sun_elevation
from sources.cameras.cadence import is_night, next_moment, next_picture
from sources.cameras.round import CameraRound, _taken_at
from sources.cameras.view import Shown, scene_digest, shown
from sources.entries import CameraEntry
from sources.gateway.arrival import Arrival, Picture, Receipt
from sources.gateway.devices import SourceChange
from sources.gateway.errors import KafkaAway
from streams import metrics
from tests.sources.cameras.servers import PASSWORD, USER, picture, served

NOON = 1_787_306_400_000  # 10:00 UTC
HOUR = 3_600_000
EQUATOR = (0.0, 0.0)


@given(st.text(min_size=1), st.integers(1000, 10**8), st.integers(0, 2 * 10**12))
def test_moments_come_once_in_a_period(name: str, every: int, now: int) -> None:
    first = next_moment(name, every, now)
    assert now < first <= now + every
    assert next_moment(name, every, first) == first + every
    assert next_moment(name, every, first - 1) == first


def test_no_pictures_at_night_or_fewer() -> None:
    night = NOON + 12 * HOUR
    assert sun_elevation(night, *EQUATOR) < -20
    assert is_night(night, EQUATOR)
    assert not is_night(NOON, EQUATOR)
    assert not is_night(night, None), "where nobody knows the place it is never night"
    assert next_picture("a", 10_000, None, EQUATOR, NOON)[1]
    wake, wanted = next_picture("a", 10_000, None, EQUATOR, night)
    assert not wanted
    assert wake <= night + 60_000, "the sun is looked for often enough"
    wake, wanted = next_picture("a", 10_000, 600_000, EQUATOR, night)
    assert wanted
    assert wake == next_moment("a", 600_000, night)


def test_the_clock_in_a_picture_is_no_other_picture() -> None:
    first = shown(picture(1, "10:00:00"), None, 1000)
    assert shown(picture(1, "10:00:00"), first, 2000) == first
    second = shown(picture(1, "10:01:00"), first, 2000)
    assert second.digest != first.digest
    assert (second.scene, second.since_ms) == (first.scene, 1000)
    assert shown(picture(2, "10:02:00"), second, 3000).since_ms == 3000
    assert scene_digest(b"no picture") != scene_digest(b"nor this")
    assert isinstance(first, Shown)


@dataclass
class _Desk:
    """A reception that keeps what it is given."""

    there: bool = True
    pictures: list[Picture] = field(default_factory=list)

    async def take_picture(self, picture: Picture) -> Receipt:
        if not self.there:
            raise KafkaAway("Kafka is away", 0)
        self.pictures.append(picture)
        return Receipt(published=1)

    async def take(self, arrival: Arrival) -> Receipt:
        raise AssertionError(f"a camera sent {arrival}, which is no picture")


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


def _entry(url: str, name: str = "mast", **more: object) -> CameraEntry:
    return CameraEntry.model_validate(
        {"station": "roof", "camera": name, "snapshot": url, "local": True, "every": "1s", "timeout": "5s"}
        | more
    )


def test_faults_are_states_that_end_and_no_camera_stops_another(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    wrong = True
    count = asked = 0
    news: list[SourceChange] = []

    async def good(_: web.Request) -> web.Response:
        nonlocal count
        count += 1
        return web.Response(body=picture(count))

    async def flaky(_: web.Request) -> web.Response:
        return web.Response(status=401) if wrong else web.Response(body=picture(-count % 1000 + 5000))

    async def tired(_: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        return web.Response(status=429, headers={"Retry-After": "3600"})

    async def run() -> None:
        nonlocal wrong
        app = web.Application()
        app.router.add_get("/good", good)
        app.router.add_get("/flaky", flaky)
        app.router.add_get("/tired", tired)
        async with served(app) as url:
            desk = _Desk()
            cameras = [
                _entry(f"{url}/good"),
                _entry(f"{url}/flaky", "yard", username=USER, password=PASSWORD, crop=[0, 0.2, 1, 0.6]),
                _entry("http://127.0.0.1:9/", "dead"),
                _entry(f"{url}/tired", "tired"),
            ]
            round_ = CameraRound(cameras, desk, report=news.append)
            serving = asyncio.create_task(round_.serve())
            try:
                await _until(lambda: len(desk.pictures) >= 2)
                await _until(lambda: round_.states["roof/yard"].word == "unauthorized")
                await _until(lambda: round_.states["roof/dead"].word == "unreachable")
                wrong = False
                await _until(lambda: round_.states["roof/yard"].word == "ok")
                await _until(lambda: count >= 4 and asked > 0)  # a second apart
            finally:
                serving.cancel()
            assert asked == 1, "it is let be for as long as it has said"
            of_yard = [one for one in desk.pictures if one.camera == "yard"]
            assert of_yard[0].crop is not None
            assert of_yard[0].crop.bottom == 0.6
            assert of_yard[0].way == "camera"

    asyncio.run(run())
    [family] = metrics.CAMERA_STATE.collect()
    states = [m for m in family.samples if m.labels["camera"] == "yard"]
    assert [sample.labels["state"] for sample in states] == ["ok"]
    told = [record.getMessage() for record in caplog.records if "roof/yard" in record.getMessage()]
    assert len(told) == 2, "said when it changes, and not each time"
    assert PASSWORD not in caplog.text
    assert [(one.source, one.state, one.well) for one in news if one.source == "camera yard"] == [
        ("camera yard", "unauthorized", False),
        ("camera yard", "ok", True),
    ]
    assert {one.station for one in news} == {"roof"}


def test_a_repeated_picture_is_sent_once_and_after_an_hour_it_is_frozen() -> None:
    now = NOON / 1000
    clock_shown = 0

    async def frozen(_: web.Request) -> web.Response:
        nonlocal clock_shown
        clock_shown += 1
        return web.Response(body=picture(3, f"10:{clock_shown:02}"))

    async def run() -> None:
        nonlocal now
        app = web.Application()
        app.router.add_get("/", frozen)
        async with served(app) as url:
            desk = _Desk()
            round_ = CameraRound([_entry(url)], desk, clock=lambda: now)
            serving = asyncio.create_task(round_.serve())
            try:
                await _until(lambda: clock_shown >= 2)
                now += 3700
                await _until(lambda: round_.states["roof/mast"].word == "frozen")
            finally:
                serving.cancel()
            assert len(desk.pictures) == 1
            assert desk.pictures[0].taken_at == NOON

    asyncio.run(run())


def test_a_picture_that_kafka_did_not_take_is_asked_for_again() -> None:
    async def unchanged(request: web.Request) -> web.Response:
        if request.headers.get("If-None-Match") == '"x"':
            return web.Response(status=304)
        return web.Response(body=picture(4), headers={"ETag": '"x"'})

    async def run() -> None:
        app = web.Application()
        app.router.add_get("/", unchanged)
        async with served(app) as url:
            desk = _Desk(there=False)
            round_ = CameraRound([_entry(url)], desk)
            serving = asyncio.create_task(round_.serve())
            try:
                await asyncio.wait_for(asyncio.shield(_tried(desk)), 60)
                desk.there = True
                await _until(lambda: len(desk.pictures) == 1)
            finally:
                serving.cancel()

    async def _tried(desk: _Desk) -> None:
        tries = 0
        take = desk.take_picture

        async def counted(picture: Picture) -> Receipt:
            nonlocal tries
            tries += 1
            return await take(picture)

        desk.take_picture = counted  # type: ignore[method-assign]
        await _until(lambda: tries >= 1)

    asyncio.run(run())


def test_cameras_of_one_period_are_asked_one_after_the_other() -> None:
    moments = {next_moment(f"camera {number}", 60_000, NOON) for number in range(60)}
    assert len(moments) > 50


@pytest.mark.parametrize(
    ("modified", "taken"),
    [
        (None, 0), (-5_000, -5_000), (-HOUR, -HOUR), (-HOUR - 1, 0), (30_000, 0), (60_001, 0),
        (-30 * 24 * HOUR, 0),
    ],
)  # fmt: skip
def test_a_picture_is_of_when_the_server_says_unless_that_cannot_be(modified: int | None, taken: int) -> None:
    """A camera that was never told the time has taken all its pictures in 1970."""
    assert _taken_at(None if modified is None else NOON + modified, NOON) == NOON + taken
