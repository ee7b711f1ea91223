"""Addresses are asked on a schedule, go on where they were, and bear faults, quotas and outages."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from schemas.base import format_time, from_ms, parse_time, to_ms
from sources.entries import PullEntry
from sources.errors import FetchError
from sources.gateway.devices import SourceChange
from sources.pull.cursors import Cursor, Cursors
from sources.pull.pages import MOST_PAGES, following, rows_in
from sources.pull.schedule import PullSchedule
from sources.pull.stretch import Stretch, is_gap, next_stretch, written
from tests.sources.cameras.servers import served
from tests.sources.gateway.desk import desk

NOW = 1_787_306_400_000  # 2026-08-21T10:00:00Z
MINUTE = 60_000
HOUR = 60 * MINUTE
KEY = "hunter2"

_ms = st.integers(1, 10 * 24 * HOUR)


@given(_ms, _ms, _ms, _ms, st.lists(st.integers(0, 5 * 24 * HOUR), max_size=20))
def test_all_of_an_outage_is_asked_for_and_nothing_before_what_is_made_up_for(
    every: int, span: int, overlap: int, back: int, pauses: list[int]
) -> None:
    """An oracle in one line: stretches touch, and the last ends now."""
    cursor, now = None, NOW
    span = max(span, 1000)
    for pause in pauses:
        now += pause
        for _ in range(12):
            found = next_stretch(cursor, now, every_ms=every, span_ms=span, overlap_ms=overlap, back_ms=back)
            start = found.since_ms + overlap
            assert start <= found.until_ms <= now
            assert found.until_ms - start <= span
            if cursor is not None:
                assert start == max(cursor, now - back), "nothing is left out but what is too old"
                assert found.until_ms > cursor or now == cursor
            cursor = found.until_ms
            if cursor == now:
                break


def test_times_are_written_as_the_address_wants_them() -> None:
    stretch = Stretch(NOW, NOW + HOUR)
    assert written("http://a/?f={since}&t={until}", stretch, "iso") == (
        "http://a/?f=2026-08-21T10%3A00%3A00Z&t=2026-08-21T11%3A00%3A00Z"
    )
    assert written("http://a/{since}", stretch, "s") == f"http://a/{NOW // 1000}"
    assert written("http://a/{since}", stretch, "ms") == f"http://a/{NOW}"


def test_cursors_outlive_the_process_and_hold_no_address(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "pull.sqlite"
    url = f"http://a/?key={KEY}"
    with Cursors(file) as cursors:
        assert cursors.read("a", url) == Cursor()
        cursors.keep("a", url, Cursor(5, 6))
    with Cursors(file) as cursors:
        assert cursors.read("a", url) == Cursor(5, 6)
        assert cursors.read("a", "http://b/") == Cursor(), "another address is another beginning"
    assert KEY.encode() not in b"".join(path.read_bytes() for path in file.parent.iterdir())


def _entry(url: str, **more: object) -> PullEntry:
    return PullEntry.model_validate(
        {"name": "cloud", "url": url, "adapter": "skyfuse-json", "local": True, "every": "1s",
         "headers": {"X-API-Key": KEY}, "timeout": "10s"} | more
    )  # fmt: skip


def _message(at_ms: int) -> dict[str, object]:
    value = {"parameter": "pm25", "value": at_ms // MINUTE % 100, "unit": "ug/m3"}
    return {"station": "roof", "observed_at": format_time(from_ms(at_ms)), "values": [value]}


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


class _Cloud:
    """A vendor's cloud that has a value for every minute."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []
        self.status = 200
        self.keys: set[str | None] = set()

    async def answer(self, request: web.Request) -> web.Response:
        self.keys.add(request.headers.get("X-API-Key"))
        if self.status != 200:
            return web.Response(status=self.status, headers={"Retry-After": "60"})
        since, until = (to_ms(parse_time(request.query[name])) for name in ("from", "to"))
        self.asked.append((since, until))
        times = range(-(-since // MINUTE) * MINUTE, until, MINUTE)
        return web.json_response([_message(at) for at in times] or [_message(until // MINUTE * MINUTE)])

    @asynccontextmanager
    async def served(self) -> AsyncIterator[str]:
        app = web.Application()
        app.router.add_get("/v1", self.answer)
        async with served(app) as url:
            yield f"{url}/v1?from={{since}}&to={{until}}"


@asynccontextmanager
async def _pulling(
    entry: PullEntry,
    file: Path,
    clock: Callable[[], float],
    reception: object,
    report: Callable[[SourceChange], None] = lambda _: None,
    zone_of: Callable[[str], ZoneInfo | None] = lambda _: None,
) -> AsyncIterator[PullSchedule]:
    schedule = PullSchedule(
        [entry], reception, file, clock=clock, report=report, zone_of=zone_of  # type: ignore[arg-type]
    )  # fmt: skip
    serving = asyncio.create_task(schedule.serve())
    try:
        yield schedule
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


def test_an_outage_is_made_up_for_after_a_restart(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    now = NOW / 1000
    cloud = _Cloud()

    async def run() -> None:
        nonlocal now
        reception, log = desk()
        async with cloud.served() as url:
            entry = _entry(url, every="1m", span="1h", overlap="0s")
            async with _pulling(entry, tmp_path / "p.sqlite", lambda: now, reception):
                await _until(lambda: len(log.readings) >= 1)
            assert cloud.asked == [(NOW - MINUTE, NOW)]
            now += 3 * 3600 + 600
            async with _pulling(entry, tmp_path / "p.sqlite", lambda: now, reception):
                await _until(lambda: len(cloud.asked) == 5 and len(log.readings) >= 191)
            assert cloud.asked[1:] == [
                (NOW, NOW + HOUR), (NOW + HOUR, NOW + 2 * HOUR), (NOW + 2 * HOUR, NOW + 3 * HOUR),
                (NOW + 3 * HOUR, NOW + 3 * HOUR + 10 * MINUTE),
            ]  # fmt: skip
        times = {json.loads(record.value or b"")["observed_at"] for record in log.readings}
        assert len(times) == 191, "every minute of the outage"
        assert cloud.keys == {KEY}
        assert "makes up for a gap" in caplog.text
        assert KEY not in caplog.text

    asyncio.run(run())


def test_what_kafka_did_not_take_is_asked_for_again(tmp_path: Path) -> None:
    now = NOW / 1000
    cloud = _Cloud()

    async def run() -> None:
        reception, log = desk()
        log.there = False
        async with cloud.served() as url:
            entry = _entry(url, every="1m", overlap="0s")
            async with _pulling(entry, tmp_path / "p.sqlite", lambda: now, reception):
                await _until(lambda: len(cloud.asked) >= 1)
            log.there = True
            async with _pulling(entry, tmp_path / "p.sqlite", lambda: now, reception):
                await _until(lambda: len(log.readings) == 1)
        assert cloud.asked == [(NOW - MINUTE, NOW)] * 2

    asyncio.run(run())


def test_a_server_that_has_had_enough_is_let_be_after_a_restart_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    now = NOW / 1000
    cloud = _Cloud()
    cloud.status = 429

    async def run() -> None:
        reception, _ = desk()
        async with cloud.served() as url:
            entry = _entry(url)
            async with _pulling(entry, tmp_path / "p.sqlite", lambda: now, reception) as schedule:
                await _until(lambda: schedule.states["cloud"].word == "too_many")
            with Cursors(tmp_path / "p.sqlite") as cursors:
                assert cursors.read("cloud", entry.url).not_before_ms == NOW + 60_000
            cloud.status = 200
            async with _pulling(entry, tmp_path / "p.sqlite", lambda: now + 61, reception) as schedule:
                await _until(lambda: schedule.states["cloud"].word == "ok")
        assert "(429)" in caplog.text

    asyncio.run(run())


@pytest.mark.parametrize(("zone", "at"), [(None, "10:00"), ("Asia/Kathmandu", "06:15")])
def test_local_times_are_in_the_zone_of_the_entry_or_else_of_its_station(
    tmp_path: Path, zone: str | None, at: str
) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.json_response({"Time": "2026-08-21T12:00:00", "SDS0X1": {"PM2.5": 7.1, "PM10": 9.8}})

    async def run() -> None:
        reception, log = desk()
        app = web.Application()
        app.router.add_get("/cm", answer)
        async with served(app) as url:
            more = {} if zone is None else {"zone": zone}
            entry = _entry(f"{url}/cm", adapter="tasmota", station="roof", **more)
            zones = {"roof": ZoneInfo("Europe/Rome")}
            async with _pulling(
                entry, tmp_path / "p.sqlite", lambda: NOW / 1000, reception, zone_of=zones.get
            ):
                await _until(lambda: bool(log.readings))
        [first, *_] = log.readings
        assert json.loads(first.value or b"")["observed_at"] == to_ms(parse_time(f"2026-08-21T{at}:00Z"))

    asyncio.run(run())


def test_a_local_device_is_asked_and_an_unchanged_answer_is_not_read_again(tmp_path: Path) -> None:
    asked = 0

    async def answer(request: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        if request.headers.get("If-None-Match") == '"1"':
            return web.Response(status=304)
        return web.Response(
            body=json.dumps({"pm02": 12.5, "serialno": "d83bda1d7660"}), headers={"ETag": '"1"'}
        )

    async def run() -> None:
        reception, log = desk()
        app = web.Application()
        app.router.add_get("/measures/current", answer)
        async with served(app) as url:
            entry = _entry(f"{url}/measures/current", adapter="airgradient", station="roof")
            async with _pulling(entry, tmp_path / "p.sqlite", lambda: NOW / 1000, reception):
                await _until(lambda: asked >= 3)
            assert len(log.readings) == 1
            assert log.readings[0].key == b"roof"
            closed = _entry(f"{url}/measures/current", local=False, station="roof")
            news: list[SourceChange] = []
            q = tmp_path / "q.sqlite"
            async with _pulling(closed, q, lambda: NOW / 1000, reception, news.append) as schedule:
                await _until(lambda: schedule.states["cloud"].word == "private_address")
            assert [(one.station, one.source, one.state) for one in news] == [
                ("roof", "pull cloud", "private_address")
            ]

    asyncio.run(run())


class _Paged:
    """A cloud that answers in pages of two, by number or by saying where the next one is."""

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.asked: list[str] = []
        self.fails_at: int | None = None

    async def answer(self, request: web.Request) -> web.Response:
        number = int(request.query.get("page", "1"))
        self.asked.append(request.query_string)
        if number == self.fails_at:
            self.fails_at = None
            return web.Response(status=429, headers={"Retry-After": "1"})
        rows = [_message(NOW - MINUTE * row) for row in range(self.rows)][2 * number - 2 : 2 * number]
        last = 2 * number >= self.rows
        match request.path:
            case "/numbered":
                return web.json_response(rows)
            case "/link":
                link = {} if last else {"Link": f'</link?page={number + 1}>; rel="next"'}
                return web.json_response(rows, headers=link)
            case _:
                return web.json_response([], headers={"Link": '<http://127.0.0.2:1/x>; rel="next"'})

    @asynccontextmanager
    async def served(self) -> AsyncIterator[str]:
        app = web.Application()
        app.router.add_get("/{way}", self.answer)
        async with served(app) as url:
            yield url


@pytest.mark.parametrize(
    ("path", "rows", "size", "pages"),
    [("numbered?page={page}", 5, 2, 3), ("numbered?page={page}", 4, None, 3), ("link", 5, None, 3)],
)
def test_all_pages_are_read_and_what_broke_off_goes_on(
    tmp_path: Path, path: str, rows: int, size: int | None, pages: int
) -> None:
    cloud = _Paged(rows)
    cloud.fails_at = 2

    async def run() -> None:
        reception, log = desk()
        async with cloud.served() as url:
            entry = _entry(f"{url}/{path}", page_size=size, every="1h")
            async with _pulling(entry, tmp_path / "p.sqlite", lambda: NOW / 1000, reception) as schedule:
                await _until(lambda: schedule.states["cloud"].word == "too_many")
                assert len(log.readings) == 2
                schedule.states["cloud"].failures = 0
            # The same schedule would wait for an hour's period; its next question is the page that failed.
            with Cursors(tmp_path / "p.sqlite") as cursors:
                await schedule._once(entry, cursors)
        assert len(log.readings) == rows
        assert len(cloud.asked) == pages + 1, "the first page is not asked for twice"

    asyncio.run(run())


def test_a_next_page_elsewhere_is_not_asked(tmp_path: Path) -> None:
    async def run() -> None:
        reception, _ = desk()
        async with _Paged(1).served() as url:
            entry = _entry(f"{url}/elsewhere")
            async with _pulling(entry, tmp_path / "p.sqlite", lambda: NOW / 1000, reception) as schedule:
                await _until(lambda: schedule.states["cloud"].word == "redirects")

    asyncio.run(run())


def test_where_an_answer_goes_on() -> None:
    here = "https://cloud/v1?a=1"

    def after(body: object, link: str | None = None, number: int = 1) -> str | None:
        return following(here, here, number, json.dumps(body).encode(), link, None)

    assert (
        after({"value": [], "@iot.nextLink": "https://cloud/v1?a=1&$skip=2"})
        == "https://cloud/v1?a=1&$skip=2"
    )
    assert after({"meta": {"next_url": "/v1?p=2"}}) == "https://cloud/v1?p=2"
    assert after([1], "?p=2") == "https://cloud/v1?p=2"
    nothings: list[object] = [
        {"next": None}, {"next": "10:30"}, {"next": 5}, {"next": "https://["}, [], {"meta": []}
    ]  # fmt: skip
    for nothing in nothings:
        assert after(nothing) is None
    assert after({"next": here}) is None, "it leads to itself"
    assert following(here, here, 1, b"{", None, None) is None
    with pytest.raises(FetchError, match="another host"):
        after({"next": "https://10.0.0.1/"})
    with pytest.raises(FetchError, match="shorter"):
        after({"next": "/v1?p=9"}, number=MOST_PAGES)
    assert rows_in({"meta": {"found": 3}, "results": [1, 2, 3], "x": [1]}) == 3


def test_a_clock_that_was_set_back_asks_for_no_time_to_come() -> None:
    found = next_stretch(NOW + HOUR, NOW, every_ms=MINUTE, span_ms=HOUR, overlap_ms=MINUTE, back_ms=24 * HOUR)
    assert found == Stretch(NOW - MINUTE, NOW)


def test_one_question_that_was_missed_is_no_gap() -> None:
    assert not is_gap(None, NOW, MINUTE)
    assert not is_gap(NOW - 3 * MINUTE, NOW, MINUTE)
    assert is_gap(NOW - 3 * MINUTE - 1, NOW, MINUTE)


def test_a_key_in_an_address_is_in_no_dead_letter_and_a_stretch_is_a_question_of_its_own(
    tmp_path: Path,
) -> None:
    conditions = []

    async def answer(request: web.Request) -> web.Response:
        conditions.append(request.headers.get("If-None-Match"))
        return web.Response(body=b"{no json", headers={"ETag": '"same"'})

    async def run() -> str:
        reception, log = desk()
        app = web.Application()
        app.router.add_get("/v1", answer)
        async with served(app) as url:
            entry = _entry(f"{url}/v1?key={KEY}&from={{since}}&to={{until}}")
            async with _pulling(
                entry, tmp_path / "p.sqlite", lambda: NOW / 1000 + len(conditions), reception
            ):
                await _until(lambda: len(conditions) >= 2 and len(log.letters) == 1)
        return repr(log.records)

    assert KEY not in asyncio.run(run())
    assert set(conditions) == {None}
