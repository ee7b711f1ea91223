"""Cameras as servers on this machine: a snapshot behind a password, MJPEG, RTSP."""

import asyncio
import hashlib
import io
import re
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import cycle
from pathlib import Path

import numpy as np
from aiohttp import web
from PIL import Image, ImageDraw

USER, PASSWORD = "viewer", "sesame: ürk"


def picture(seed: int, clock: str = "", size: tuple[int, int] = (320, 240)) -> bytes:
    """A JPEG of a scene, with a clock in its upper left corner."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, 120, 14), fill=(0, 0, 0))
    draw.text((2, 1), clock, fill=(255, 255, 255))
    output = io.BytesIO()
    image.save(output, "JPEG", quality=85)
    return output.getvalue()


def digest_says_yes(request: web.Request, nonce: str) -> bool:
    """RFC 7616 with MD5 and qop=auth, as cameras have it."""
    header = request.headers.get("Authorization", "")
    if not header.startswith("Digest "):
        return False
    said = dict(re.findall(r'(\w+)="?([^",]*)"?', header))

    def md5(text: str) -> str:
        return hashlib.md5(text.encode()).hexdigest()

    ha1 = md5(f"{USER}:camera:{PASSWORD}")
    ha2 = md5(f"GET:{said['uri']}")
    right = md5(f"{ha1}:{nonce}:{said['nc']}:{said['cnonce']}:{said['qop']}:{ha2}")
    return (said["nonce"], said["response"]) == (nonce, right)


@asynccontextmanager
async def served(app: web.Application) -> AsyncIterator[str]:
    """The address of a web server."""
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"  # type: ignore[union-attr]
    finally:
        await runner.cleanup()


def transport_stream(file: Path, frames: int = 30) -> bytes:
    """MPEG-TS with H.264, a key frame every ten."""
    import av

    with av.open(str(file), "w", format="mpegts") as container:
        stream = container.add_stream("libx264", rate=10, options={"g": "10", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for number in range(frames):
            pixels = np.full((240, 320, 3), (40, 90 + number, 160), np.uint8)
            pixels[100:140, 100:200] = (220, 30, 30)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return file.read_bytes()


@asynccontextmanager
async def rtsp(
    data: bytes, *, secret: bool = False, dead: bool = False, endless: bool = False
) -> AsyncIterator[str]:
    """An RTSP server that plays a transport stream, interleaved on its TCP connection (RFC 2326, 2250).

    `dead`: it takes the connection and never says anything. `endless`: it plays the same for ever.
    """

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                if dead:
                    await reader.read()  # until it is left alone
                    return
                method, number = head.split()[0], re.search(r"CSeq: *(\d+)", head)
                assert number is not None
                answer = f"CSeq: {number[1]}\r\n"
                if secret and "Authorization:" not in head:
                    answer += 'WWW-Authenticate: Basic realm="camera"\r\n'
                    writer.write(f"RTSP/1.0 401 Unauthorized\r\n{answer}\r\n".encode())
                    continue
                body = ""
                if method == "OPTIONS":
                    answer += "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n"
                elif method == "DESCRIBE":
                    body = (
                        "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=t\r\nt=0 0\r\nm=video 0 RTP/AVP 33\r\n"
                        "c=IN IP4 0.0.0.0\r\na=control:one\r\n"
                    )
                    answer += f"Content-Type: application/sdp\r\nContent-Length: {len(body)}\r\n"
                elif method == "SETUP":
                    answer += "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n"
                else:
                    answer += "Session: 1\r\n"
                writer.write(f"RTSP/1.0 200 OK\r\n{answer}\r\n{body}".encode())
                if method == "PLAY":
                    starts = range(0, len(data), 1316)
                    for count, start in enumerate(cycle(starts) if endless else starts):
                        packet = struct.pack("!BBHII", 0x80, 33, count & 0xFFFF, count * 900, 7)
                        packet += data[start : start + 1316]
                        writer.write(struct.pack("!cBH", b"$", 0, len(packet)) + packet)
                        await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"rtsp://127.0.0.1:{server.sockets[0].getsockname()[1]}/live"
    finally:
        server.close()
