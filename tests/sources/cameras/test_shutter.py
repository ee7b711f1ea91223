"""Pictures are had from real servers of every kind, and every fault is one in words."""

import asyncio
import io
import time
from pathlib import Path

import psutil
import pytest
from aiohttp import BasicAuth, web
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sources.cameras import shutter as shutter_module
from sources.cameras.mjpeg import first_picture
from sources.cameras.shutter import shutter_of
from sources.entries import CameraEntry
from sources.errors import FetchError
from sources.fetch import Asked, Fetcher, is_public
from tests.busy import stretched
from tests.sources.cameras.servers import (
    PASSWORD,
    USER,
    digest_says_yes,
    picture,
    rtsp,
    served,
    transport_stream,
)


def _camera(**more: object) -> CameraEntry:
    return CameraEntry.model_validate({"station": "roof", "local": True, "timeout": "5s"} | more)


async def _take(entry: CameraEntry, times: int = 1) -> list[bytes | None]:
    shutter = shutter_of(entry, asyncio.Semaphore(1))
    try:
        return [(await shutter.take()).data for _ in range(times)]
    finally:
        await shutter.close()


async def _fault(entry: CameraEntry) -> FetchError:
    with pytest.raises(FetchError) as caught:
        await _take(entry)
    assert PASSWORD not in str(caught.value)
    return caught.value


def _behind(kind: str, asked: list[str]) -> web.Application:
    async def snapshot(request: web.Request) -> web.Response:
        asked.append(request.headers.get("Authorization", "")[:6])
        if kind == "basic":
            said = request.headers.get("Authorization")
            good = said == BasicAuth(USER, PASSWORD, encoding="utf-8").encode()
            wants = 'Basic realm="camera"'
        else:
            good, wants = (
                digest_says_yes(request, "n0nce"),
                'Digest realm="camera", nonce="n0nce", qop="auth"',
            )
        if not good:
            return web.Response(status=401, headers={"WWW-Authenticate": wants})
        return web.Response(body=picture(1), content_type="image/jpeg")

    app = web.Application()
    app.router.add_get("/shot.jpg", snapshot)
    return app


@pytest.mark.filterwarnings("ignore:.*BasicAuth:DeprecationWarning")
@pytest.mark.parametrize("kind", ["basic", "digest"])
def test_a_snapshot_behind_a_password(kind: str) -> None:
    async def run() -> None:
        asked: list[str] = []
        async with served(_behind(kind, asked)) as url:
            entry = _camera(snapshot=f"{url}/shot.jpg", username=USER, password=PASSWORD)
            assert await _take(entry, 2) == [picture(1)] * 2
            if kind == "digest":
                assert "Basic " not in asked, (
                    "the password never goes over the wire where digest is to be had"
                )
            wrong = _camera(snapshot=f"{url}/shot.jpg", username=USER, password="no")
            assert (await _fault(wrong)).code == "unauthorized"
            assert (await _fault(_camera(snapshot=f"{url}/shot.jpg"))).code == "unauthorized"

    asyncio.run(run())


@pytest.mark.parametrize("by", ["ETag", "Last-Modified"])
def test_an_unchanged_snapshot_is_not_sent_twice(by: str) -> None:
    mark = {"ETag": '"a1"', "Last-Modified": "Fri, 21 Aug 2026 10:00:00 GMT"}[by]

    async def snapshot(request: web.Request) -> web.Response:
        if mark in (request.headers.get("If-None-Match"), request.headers.get("If-Modified-Since")):
            return web.Response(status=304)
        return web.Response(body=picture(1), headers={by: mark})

    async def run() -> None:
        app = web.Application()
        app.router.add_get("/", snapshot)
        async with served(app) as url:
            assert await _take(_camera(snapshot=url), 2) == [picture(1), None]

    asyncio.run(run())


def test_faults_of_a_snapshot_are_told_apart() -> None:
    async def page(_: web.Request) -> web.Response:
        return web.Response(text="<html>please log in</html>", content_type="text/html")

    async def busy(_: web.Request) -> web.Response:
        return web.Response(status=429, headers={"Retry-After": "77"})

    async def hanging(_: web.Request) -> web.Response:
        await asyncio.sleep(3600)
        raise AssertionError

    async def endless(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        while True:
            await answer.write(b"\xff\xd8\xff" + bytes(1 << 20))

    async def broken(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Length": "1000"})
        await answer.prepare(request)
        await answer.write(b"\xff\xd8\xff")
        assert request.transport is not None
        request.transport.close()
        return answer

    async def run() -> None:
        app = web.Application()
        for path, handler in {
            "/page": page, "/busy": busy, "/hangs": hanging, "/endless": endless, "/broken": broken,
        }.items():  # fmt: skip
            app.router.add_get(path, handler)
        async with served(app) as url:
            expected = {
                "/page": "not_a_picture", "/busy": "too_many", "/hangs": "timeout", "/endless": "too_large",
                "/broken": "broken_answer", "/nowhere": "not_found",
            }  # fmt: skip
            for path, code in expected.items():
                fault = await _fault(
                    _camera(snapshot=url + path, timeout="1s" if path == "/hangs" else "20s")
                )
                assert fault.code == code, path
                if path == "/busy":
                    assert fault.retry_after_s == 77
        assert (await _fault(_camera(snapshot=url))).code == "unreachable"
        assert (await _fault(_camera(snapshot="http://no.such.host.invalid/"))).code == "no_such_host"

    asyncio.run(run())


@pytest.mark.parametrize("boundary", ["frame", "--frame"])
@pytest.mark.parametrize("length", [True, False])
def test_an_mjpeg_stream_gives_its_first_whole_picture(boundary: str, length: bool) -> None:
    async def stream(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(
            headers={"Content-Type": f"multipart/x-mixed-replace; boundary={boundary}"}
        )
        await answer.prepare(request)
        for number in range(1000):
            shot = picture(number)
            stated = f"Content-Length: {len(shot)}" if length else "X-Shot: 1"
            part = f"--frame\r\nContent-Type: image/jpeg\r\n{stated}\r\n\r\n".encode() + shot + b"\r\n"
            for start in range(0, len(part), 4000):
                await answer.write(part[start : start + 4000])
        return answer

    async def one(_: web.Request) -> web.Response:
        return web.Response(body=b"\xff\xd8\xff half", content_type="image/jpeg")

    async def run() -> None:
        app = web.Application()
        app.router.add_get("/live", stream)
        app.router.add_get("/one", one)
        async with served(app) as url:
            assert await _take(_camera(mjpeg=f"{url}/live"), 2) == [picture(0)] * 2
            assert (await _fault(_camera(mjpeg=f"{url}/one"))).code == "not_a_picture"

    asyncio.run(run())


@given(st.binary(max_size=300), st.booleans(), st.binary(max_size=200))
def test_a_picture_is_found_in_a_stream_only_when_all_of_it_is_there(
    inside: bytes, length: bool, behind: bytes
) -> None:
    shot = b"\xff\xd8\xff" + inside.replace(b"\xff", b"") + b"\xff\xd9"
    head = b"--x\r\n" + (b"Content-Length: %d\r\n" % len(shot) if length else b"") + b"\r\n"
    whole = head + shot + b"\r\n--x\r\n" + behind
    assert first_picture(whole) == shot
    for cut in range(len(head) + len(shot)):
        assert first_picture(whole[:cut]) is None


def test_an_rtsp_stream_gives_a_key_frame(tmp_path: Path) -> None:
    async def run() -> None:
        data = transport_stream(tmp_path / "live.ts")
        async with rtsp(data) as url:
            [shot] = await _take(_camera(stream=url, timeout="60s"))
        assert shot is not None
        with Image.open(io.BytesIO(shot)) as image:
            assert image.size == (320, 240)
            red, green, blue = image.convert("RGB").getpixel((150, 120))  # type: ignore[misc]
            assert red > 190
            assert max(green, blue) < 70
        async with rtsp(data, secret=True) as url:
            assert (await _fault(_camera(stream=url, timeout="60s"))).code == "unauthorized"
            entry = _camera(stream=url, timeout="60s", username=USER, password=PASSWORD)
            assert len(await _take(entry)) == 1

    asyncio.run(run())


#: Packets of a transport stream with nothing in them.
_NOTHING = (b"\x47\x1f\xff\x10" + bytes(184)) * 7


def test_a_dead_stream_is_ended_and_leaves_no_process_behind() -> None:
    async def run() -> None:
        # FFmpeg itself gives up the first; of the second it hopes for a picture for ever.
        for server in (rtsp(b"", dead=True), rtsp(_NOTHING, endless=True)):
            async with server as url:
                began = time.monotonic()
                assert (await _fault(_camera(stream=url, timeout="3s"))).code == "timeout"
                took = time.monotonic() - began
                assert took < stretched(30.0)

    before = set(psutil.Process().children())  # servers of other tests
    asyncio.run(run())
    assert set(psutil.Process().children()) <= before


@pytest.mark.parametrize("address", ["127.0.0.1", "10.1.2.3", "[::1]", "169.254.169.254", "localhost"])
def test_a_private_address_is_asked_only_where_that_is_said(address: str) -> None:
    async def run() -> None:
        entry = _camera(snapshot=f"http://{address}:9/shot.jpg", local=False)
        assert (await _fault(entry)).code == "private_address"

    asyncio.run(run())


def test_no_redirect_leads_into_a_private_network_or_takes_the_password_along(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[str, str | None]] = []

    async def seen(request: web.Request) -> web.Response:
        asked.append((request.path, request.headers.get("Authorization")))
        assert "X-API-Key" not in request.headers
        if request.path == "/nosy":
            wants = 'Digest realm="camera", nonce="n0nce", qop="auth"'
            return web.Response(status=401, headers={"WWW-Authenticate": wants})
        return web.Response(body=picture(1))

    async def run() -> None:
        other = web.Application()
        other.router.add_get("/{path:.*}", seen)
        async with served(other) as there:
            port = there.rpartition(":")[2]

            async def lead(request: web.Request) -> web.Response:
                to = request.query["to"]
                raise web.HTTPFound(to)

            first = web.Application()
            first.router.add_get("/lead", lead)
            async with served(first) as here:

                def entry(to: str, local: bool) -> CameraEntry:
                    return _camera(
                        snapshot=f"{here}/lead?to={to}", local=local, username=USER, password=PASSWORD
                    )

                assert await _take(entry(f"{there}/other-port", True)) == [picture(1)]
                assert asked == [("/other-port", None)], "another origin is not told who asks"
                assert (await _fault(entry(f"http://127.0.0.2:{port}/", True))).code == "redirects"
                assert (await _fault(entry("file:///etc/passwd", True))).code == "redirects"
                assert (await _fault(entry(f"{there}/nosy", True))).code == "unauthorized"
                assert asked.pop() == ("/nosy", None)
                fetcher = Fetcher(
                    Asked(f"{here}/lead?to={there}/key", True, 1 << 20, headers={"X-API-Key": "k"})
                )
                assert (await fetcher.fetch()).body == picture(1)
                await fetcher.close()
                assert asked.pop() == ("/key", None)
                assert (await _fault(entry(f"{here}/lead?to=/lead", True))).code in (
                    "redirects",
                    "refused",
                    "server_error",
                )

                # As if this machine's first address were a public one.
                monkeypatch.setattr("sources.fetch.is_public", lambda one: one == "127.0.0.1")
                assert await _take(entry(f"{there}/public", False)) == [picture(1)]
                for to in (
                    f"http://127.0.0.2:{port}/",
                    f"http://[::1]:{port}/",
                    f"http://ip6-localhost:{port}/",
                ):
                    assert (await _fault(entry(to, False))).code in ("private_address", "no_such_host"), to
                assert (await _fault(entry(f"http://127.0.0.2:{port}/", False))).code == "private_address"
        assert [path for path, _ in asked] == ["/other-port", "/public"]

    asyncio.run(run())


@pytest.mark.parametrize(
    "address",
    ["::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:a00:1::", "fe80::1%eth0", "fd00::1", "0.0.0.0", "100.64.0.1",
     "192.168.1.1", "172.16.0.1", "224.0.0.1", "255.255.255.255", "::", "no address", "",
     "fec0::1", "192.0.0.8"],
)  # fmt: skip
def test_addresses_that_are_not_for_anybody(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["1.1.1.1", "2606:4700::1111", "::ffff:1.1.1.1"])
def test_addresses_that_are(address: str) -> None:
    assert is_public(address)


def test_a_stream_without_an_end_of_a_picture_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutter_module, "MAX_ORIGINAL_BYTES", 100_000)
    sent = 0

    async def endless(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse(headers={"Content-Type": "multipart/x-mixed-replace; boundary=b"})
        await response.prepare(request)
        await response.write(b"--b\r\nContent-Type: image/jpeg\r\n\r\n\xff\xd8")
        while sent < 50_000_000:
            await response.write(bytes(50_000))
            sent += 50_000
        return response

    async def run() -> FetchError:
        app = web.Application()
        app.router.add_get("/live", endless)
        async with served(app) as url:
            return await _fault(_camera(mjpeg=f"{url}/live", timeout="60s"))

    assert asyncio.run(run()).code == "no_picture"
    assert sent < 50_000_000


def test_so_many_streams_are_opened_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is a process with FFmpeg in it."""
    opened = most = 0

    async def process(*_: object, **__: object) -> object:
        nonlocal opened, most
        opened += 1
        most = max(most, opened)
        await asyncio.sleep(0)  # the others may come
        opened -= 1
        raise FetchError("stop", "no process is needed to count them")

    monkeypatch.setattr(asyncio, "create_subprocess_exec", process)

    async def run() -> None:
        streams = asyncio.Semaphore(2)
        entry = _camera(stream="rtsp://127.0.0.1:9/live")
        shutters = [shutter_of(entry, streams) for _ in range(6)]
        await asyncio.gather(*(one.take() for one in shutters), return_exceptions=True)

    asyncio.run(run())
    assert most == 2
