"""Cameras that upload by FTP: what a real client is told, and what becomes of what it sends."""

import asyncio
import ftplib
import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from schemas.frame import FrameHeader, accept_header
from settings.sections import FtpSettings
from sources.gateway.devices import SourceChange
from sources.gateway.errors import FtpMissing
from sources.gateway.ftp_way import FtpWay
from sources.gateway.keys import KeyRing, StoredKey, changing_keys, digest_of, new_key
from tests.sources.cameras.servers import picture
from tests.sources.gateway.desk import NOW, Log, desk
from tests.sources.test_way_contract import serving

ROOF, HILLS = "sf_roof", "sf_hills"
Work = Callable[[Callable[..., ftplib.FTP]], None]


def over(folder: Path, work: Work, **settings: Any) -> tuple[Log, list[SourceChange]]:
    """What reached the broker, and what was reported, when `work` has talked to a server."""
    file = folder / "keys.toml"
    with changing_keys(file) as keys:
        keys.append(StoredKey(name="roof", stations=("roof",), sha256=digest_of(ROOF)))
        keys.append(StoredKey(name="hills", stations=("hill-*",), sha256=digest_of(HILLS)))
        keys.append(StoredKey(name="open", stations=("open",)))
    reception, broker = desk()
    reports: list[SourceChange] = []

    async def run() -> None:
        way = FtpWay(
            FtpSettings(port=0, **settings), reception, KeyRing(file), report=reports.append,
            clock=lambda: NOW / 1000,
        )  # fmt: skip
        async with serving(way):
            await asyncio.wait_for(way.listening.wait(), 60)
            assert way.address is not None
            host, port = way.address

            def client(user: str = "roof", key: str = ROOF) -> ftplib.FTP:
                made = ftplib.FTP(timeout=60)
                try:
                    made.connect(host, port)
                    made.login(user, key)
                except ftplib.Error:
                    made.close()
                    raise
                return made

            await asyncio.to_thread(work, client)

    asyncio.run(run())
    return broker, reports


def upload(client: ftplib.FTP, name: str = "a.jpg", data: bytes | None = None) -> str:
    return client.storbinary(f"STOR {name}", io.BytesIO(picture(1) if data is None else data))


def frames(broker: Log) -> list[FrameHeader]:
    return [accept_header(one.headers) for one in broker.frames]


def test_what_a_camera_uploads_is_a_frame_of_its_station(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(1)

    def work(client: Callable[..., ftplib.FTP]) -> None:
        with client() as roof:
            roof.mkd("2026-08-21")  # as cameras do
            roof.cwd("2026-08-21")
            assert roof.nlst() == []
            assert upload(roof, "snapshot.tmp").startswith("226")
            roof.rename("snapshot.tmp", "snapshot.jpg")
        with client("hill-3+east", HILLS) as hill:
            assert upload(hill).startswith("226")
            hill.set_pasv(False)
            assert upload(hill, data=picture(2)).startswith("226")

    broker, reports = over(tmp_path, work)
    assert ROOF not in caplog.text
    assert HILLS not in caplog.text
    [roof, hill, later] = frames(broker)
    assert (roof.station, roof.camera, roof.time.timestamp() * 1000) == ("roof", "main", NOW)
    assert (hill.station, hill.camera) == (later.station, later.camera) == ("hill-3", "east")
    assert [(one.station, one.source, one.state) for one in reports] == [
        ("roof", "camera main", "ok"), ("hill-3", "camera east", "ok"),
    ]  # fmt: skip


def test_nobody_sends_for_a_station_that_their_key_is_not_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Who tries keys waits for 3 s each time.
    monkeypatch.setattr("sources.gateway.ftp_server._FtpSession.auth_failed_timeout", 0.01)

    def work(client: Callable[..., ftplib.FTP]) -> None:
        for user, key in (
            ("roof", HILLS), ("hill-3", ROOF), ("roof", "wrong"), ("anonymous", ""), ("open", ""),
            ("../roof", ROOF), ("roof+../x", ROOF), ("", ROOF),
        ):  # fmt: skip
            with pytest.raises(ftplib.error_perm, match=r"^5[03]"):
                client(user, key)

    assert over(tmp_path, work)[0].records == []


def test_without_logging_in_nothing_is_taken(tmp_path: Path) -> None:
    def work(client: Callable[..., ftplib.FTP]) -> None:
        with client() as known:
            stranger = ftplib.FTP(timeout=60)
            stranger.connect(known.host, known.port)
            with stranger, pytest.raises(ftplib.error_perm, match="530"):
                stranger.sendcmd("STOR a.jpg")

    assert over(tmp_path, work)[0].records == []


@pytest.mark.parametrize("name", ["../../escape.jpg", "/etc/escape.jpg", "~/escape.jpg", "a/b/escape.jpg"])
def test_no_name_that_is_sent_becomes_one_on_a_disk(tmp_path: Path, name: str) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)

    def work(client: Callable[..., ftplib.FTP]) -> None:
        with client() as roof:
            roof.cwd("../..")
            assert upload(roof, name).startswith("226")
            for command in (f"RETR {name}", "RETR /etc/passwd", "SIZE /etc/passwd", f"APPE {name}"):
                with pytest.raises(ftplib.error_perm):
                    roof.sendcmd(command)
            assert roof.nlst("/etc") == []

    broker, _ = over(tmp_path / "deep" / "er", work)
    assert len(broker.frames) == 1
    assert [path.name for path in tmp_path.rglob("*") if path.is_file() and "keys" not in path.name] == []


def test_what_is_no_picture_is_told_and_a_dead_letter_and_ends_in_the_fleets_health(tmp_path: Path) -> None:
    torn = picture(1)[:2000]

    def work(client: Callable[..., ftplib.FTP]) -> None:
        with client() as roof:
            with pytest.raises(ftplib.error_perm, match=r"552 .*\[not_an_image\]"):
                upload(roof, data=b"test")
            with pytest.raises(ftplib.error_perm, match="552"):
                upload(roof, data=torn)
            assert upload(roof).startswith("226")
            assert upload(roof, data=picture(3)).startswith("226")

    broker, reports = over(tmp_path, work)
    assert [value for _, value in broker.letters] == [b"test", None]  # of what may show somebody why alone
    assert len(broker.frames) == 2
    assert [one.well for one in reports] == [False, False, True]


def test_what_is_too_large_is_not_kept_and_the_next_one_is_taken(tmp_path: Path) -> None:
    def send_too_much(roof: ftplib.FTP) -> None:
        try:
            upload(roof, data=bytes(13 * 1024 * 1024))
        except OSError:  # the gateway hung up amid the data: its reply is still to be read
            roof.voidresp()

    def work(client: Callable[..., ftplib.FTP]) -> None:
        with client() as roof:
            with pytest.raises(ftplib.error_perm, match=r"552 More than 12582912 bytes .*\[too_large\]"):
                send_too_much(roof)
            assert upload(roof).startswith("226")

    broker, reports = over(tmp_path, work)
    assert len(broker.records) == 1
    assert [one.state for one in reports] == ["too_large", "ok"]


def test_no_more_clients_than_there_is_room_for(tmp_path: Path) -> None:
    def work(client: Callable[..., ftplib.FTP]) -> None:
        with client(), client(), pytest.raises(ftplib.error_temp, match="421"):
            client()

    over(tmp_path, work, max_clients=1)


def test_an_upload_that_a_server_elsewhere_is_to_fetch_is_refused(tmp_path: Path) -> None:
    def work(client: Callable[..., ftplib.FTP]) -> None:
        with client() as roof, pytest.raises(ftplib.error_perm, match="501"):
            roof.sendcmd("PORT 10,0,0,1,31,144")

    over(tmp_path, work)


def test_transfers_keep_to_the_ports_that_are_let_through(tmp_path: Path) -> None:
    ports: list[int] = []

    def work(client: Callable[..., ftplib.FTP]) -> None:
        with client() as roof:
            ports.extend(ftplib.parse227(roof.sendcmd("PASV"))[1] for _ in range(3))

    over(tmp_path, work, passive_ports=(42_310, 42_339))
    assert all(42_310 <= port <= 42_339 for port in ports)


def test_ports_in_the_wrong_order_are_told() -> None:
    with pytest.raises(ValidationError, match="the first port is above the last one"):
        FtpSettings(passive_ports=(30_010, 30_000))


def test_without_the_extra_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sources.gateway.ftp_server", None)
    with pytest.raises(FtpMissing, match=r"skyfuse\[ftp\]"):
        FtpWay(FtpSettings(port=0), desk()[0], KeyRing(tmp_path / "keys.toml"))


def test_a_short_key_is_one_that_cameras_take() -> None:
    keys = {new_key(short=True) for _ in range(50)}
    assert len(keys) == 50
    assert all(len(key) == 16 and key.isalnum() for key in keys)
