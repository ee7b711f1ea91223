"""The sink's token: a file that is read again, so that whoever mends it need not restart the worker."""

import logging
import socket
import threading

import pytest

from agents.builders import _waited, _waiting
from cli.shared.influx_setup import admin_of, initialise
from settings.token_file import read_token
from sinks.influx import InfluxBucket, InfluxSink
from streams.errors import WaitStopped
from streams.metrics import REGISTRY
from streams.patience import Hindrance, Patience
from tests.influx2 import Influx2
from tests.samples import estimate

SECRET = "Zq7xVk9pWm2d"


@pytest.fixture
def server():
    one = Influx2()
    yield one
    one.close()


def init(server, folder, write_file=None):
    admin = admin_of({}, folder, "admin", None, None)
    return initialise(server.url, "skyfuse", "aq", admin, folder, write_file=write_file)


def waits():
    """Sink and why, of those that wait."""
    (family,) = [one for one in REGISTRY.collect() if one.name == "aq_sink_waits_since_seconds"]
    return {(one.labels["sink"], one.labels["why"]): one.value for one in family.samples}


@pytest.fixture
def sink_of(server):
    """Makes sinks that read `file`; `then(count)` is called at each wait and may mend what is wrong."""
    made = []
    _waited()  # what waited in another test is this one's no longer

    def make(file, then):
        count = 0

        def wait(_):
            nonlocal count
            count += 1
            return bool(then(count))

        patience = Patience(wait=wait, uniform=lambda: 0.0, on_wait=_waiting, on_end=_waited)
        one = InfluxSink(InfluxBucket(server.url, "skyfuse", "aq"), lambda: read_token(file), patience)
        made.append(one)
        return one

    yield make
    for one in made:
        one.close()


def test_init_mends_a_withdrawn_token_without_a_restart(server, tmp_path, sink_of, caplog):
    file = tmp_path / "elsewhere" / "sink.token"
    init(server, tmp_path, file)
    assert not (tmp_path / "write.token").exists()
    seen = []

    def mend(count):
        seen.append(waits())
        if count == 3:
            init(server, tmp_path, file)
        return count > 9

    sink = sink_of(file, mend)
    assert sink.write([estimate("s1")]) == []
    assert waits() == {}
    (lost,) = [
        id for id, one in server.authorizations.items() if one["description"].startswith("skyfuse: write")
    ]
    del server.authorizations[lost]
    assert sink.write([estimate("s2")]) == []
    assert len(seen) == 3
    assert all(set(one) == {("influx", "answers 401")} for one in seen)
    assert len({one["influx", "answers 401"] for one in seen}) == 1  # since when: it stays
    assert waits() == {}
    assert "influx.token_file is read again" in caplog.text
    stations = {line.split(",")[1] for line in server.lines["aq"] if line.startswith("station_state")}
    assert {one.split(" ")[0] for one in stations} == {"station=s1", "station=s2"}


def test_a_missing_or_damaged_file_is_waited_for_and_not_quoted(server, tmp_path, sink_of, caplog):
    init(server, tmp_path)
    file, good = tmp_path / "write.token", (tmp_path / "write.token").read_text()
    file.unlink()
    states = [b"", f"{SECRET}\n{SECRET}".encode(), SECRET.encode() + b"\xff", f" {good}\r\n".encode()]

    def mend(count):
        assert set(waits()) == {("influx", "cannot be asked")}
        file.write_bytes(states[count - 1])

    with caplog.at_level(logging.DEBUG):
        assert sink_of(file, mend).write([estimate("s1")]) == []
    assert "write.token is not there" in caplog.text
    assert "write.token is empty" in caplog.text
    assert caplog.text.count("write.token is damaged") == 2
    assert SECRET not in caplog.text


def test_a_read_token_is_waited_for_as_well(server, tmp_path, sink_of):
    init(server, tmp_path)
    file = tmp_path / "sink.token"
    file.write_text((tmp_path / "read.token").read_text())

    def mend(_):
        assert set(waits()) == {("influx", "answers 403")}
        file.write_text((tmp_path / "write.token").read_text())

    assert sink_of(file, mend).write([estimate("s1")]) == []


def test_a_wait_that_ends_with_the_worker_is_over():
    stopping = threading.Event()
    stopping.set()
    trouble = Hindrance("influx", "cannot be reached", "InfluxDB cannot be reached: refused")
    with pytest.raises(WaitStopped):
        Patience.until(stopping, _waiting, _waited).pause(0, trouble)
    assert waits() == {}


def test_what_is_waited_for_is_told_in_few_words():
    """They name a series: a server's own words would make any number of them."""
    seen = []

    def wait(_):
        seen.append(set(waits()))
        return True

    patience = Patience(wait=wait, on_wait=_waiting, on_end=_waited)
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # bound and not listening: every connection is refused
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        sink = InfluxSink(InfluxBucket(url, "o", "b"), "t", patience)
        with pytest.raises(WaitStopped):
            sink.write([estimate("s1")])
        sink.close()
    assert seen == [{("influx", "cannot be reached")}]
    assert waits() == {}
