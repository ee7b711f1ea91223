"""InfluxDB sink against Debian's InfluxDB and VictoriaMetrics, behind a proxy that misbehaves."""

import gc
import itertools
import resource
import socket
import threading
import tracemalloc
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.base import from_ms
from schemas.estimate import Window
from schemas.parameters import POLLUTANTS
from sinks.errors import SinkSettingError
from sinks.influx import InfluxBucket, InfluxSink, on_this_machine
from sinks.points import Point
from sinks.store import Store
from streams.errors import WaitStopped
from streams.patience import Patience
from tests.engines import Fault, FaultProxy, influxdb
from tests.samples import T0, estimate, estimates, imputed, index, measured
from tests.sinks.lines import points

pytestmark = pytest.mark.engine


class Clockless:
    """Patience without real time: notes what was waited for and calls `then` on each wait."""

    def __init__(self, then=lambda _: None):
        self.waits = []
        self.reasons = []
        self._then = then

    def patience(self):
        return Patience(wait=self._wait, uniform=lambda: 0.0, on_wait=self._told)

    def _told(self, trouble, seconds):
        self.reasons.append(trouble.words)
        self.waits.append(seconds)

    def _wait(self, _):
        return bool(self._then(len(self.waits)))


@pytest.fixture
def sink_to():
    """Makes sinks that are closed with the test."""
    made = []

    def make(url, bucket, clock=None, **more):
        clock = clock or Clockless()
        more.setdefault("timeout", 5.0)
        made.append(InfluxSink(InfluxBucket(url, "skyfuse", bucket), "t", clock.patience(), **more))
        return made[-1]

    yield make
    for sink in made:
        sink.close()


def everything(influx):
    """All points of the database: (measurement, tags, time) -> fields."""
    found = {}
    for measurement in ("aq", "aqi", "station_state"):
        for series in influx.query(f'SELECT * FROM "{measurement}" GROUP BY *'):
            for values in series["values"]:
                fields = dict(zip(series["columns"], values, strict=True))
                time = fields.pop("time")
                found[measurement, tuple(sorted(series["tags"].items())), time] = fields
    return found


def expected(kept):
    def stored(value):
        return " ".join(value.splitlines()) if isinstance(value, str) and value.splitlines() else value

    return {
        (point.measurement, tuple(sorted(point.tags)), point.time): {
            name: stored(value) for name, value in point.fields.items()
        }
        for one in kept
        for point in points(one)
    }


@settings(
    max_examples=10,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(st.lists(estimates(), max_size=5), max_size=3))
def test_influx_holds_the_last_revision_whole(influx_server, batches):
    """A revision replaces every field of its points, also those that went from a value to missing."""
    from tests.conftest import _numbers

    database = f"h{next(_numbers)}"
    influx_server.create_database(database)
    proxy = FaultProxy(influx_server.url, influx1=True)
    sink = InfluxSink(InfluxBucket(proxy.url, "o", database), "t", Clockless().patience())
    kept: dict[Any, Any] = {}
    try:
        for batch in batches:
            assert sink.write(batch) == []
            newest: dict[Any, Any] = {}
            for one in batch:
                key = one.station, one.window.end
                if key not in newest or one.revision >= newest[key].revision:
                    newest[key] = one
            kept |= newest
    finally:
        sink.close()
        proxy.close()
    own = type(influx_server)(influx_server.url, database, influx_server.process)
    assert everything(own) == expected(kept.values())


def test_a_field_that_goes_missing_is_overwritten(influx, proxy, sink_to):
    sink = sink_to(proxy(influx.url, influx1=True).url, influx.database)
    sink.write([estimate(pollutants={p: imputed(40, 30, 50, raw=39.0) for p in POLLUTANTS})])
    sink.write([estimate(revision=2, pollutants={"pm10": measured(7.0)}, indices=(index(None),))])
    rows = {row["parameter"]: row for row in influx.rows("SELECT * FROM aq")}
    assert {p: (row["has_value"], row["has_interval"]) for p, row in rows.items()} == {
        p: (p == "pm10", False) for p in POLLUTANTS
    }
    assert influx.rows('SELECT "index", category, sub_pm25 FROM aqi') == [
        {"time": T0 + 60, "index": -1, "category": "", "sub_pm25": -1}
    ]


def test_a_standard_that_a_revision_has_no_more_is_overwritten(tmp_path, influx, proxy, sink_to):
    sink = sink_to(proxy(influx.url, influx1=True).url, influx.database)
    with Store(tmp_path / "s.sqlite") as store:
        for revision, standards in ((1, ("us-epa-2024", "in-naqi-2014")), (2, ("in-naqi-2014",))):
            one = estimate(revision=revision, indices=tuple(index(70, standard=s) for s in standards))
            current = store.write([one])
            assert sink.write(current) == []
            assert sink.write_withdrawn(store.withdrawn(current)) == []
    rows = influx.rows('SELECT standard, "index", category, sub_pm25, status, leading, revision FROM aqi')
    assert {row.pop("standard"): row for row in rows} == {
        "in-naqi-2014": {
            "time": T0 + 60, "index": 70, "category": "moderate", "sub_pm25": 70, "status": "valid",
            "leading": True, "revision": 2,
        },
        "us-epa-2024": {
            "time": T0 + 60, "index": -1, "category": "", "sub_pm25": -1, "status": "withdrawn",
            "leading": False, "revision": 2,
        },
    }  # fmt: skip


def test_victoria_metrics_takes_the_same_writes(victoria, sink_to):
    sink = sink_to(victoria.url, "aq")
    batch = [
        estimate(f"vm{n}", end=T0 + 60 * m, pollutants={"pm25": measured(10.0 * n + m)})
        for n in range(3)
        for m in range(1, 4)
    ]
    assert sink.write(batch) == []
    for n in range(3):
        (series,) = victoria.export(f'{{__name__="aq_value",station="vm{n}",parameter="pm25"}}')
        assert series["timestamps"] == [(T0 + 60 * m) * 1000 for m in range(1, 4)]
        assert series["values"] == [10.0 * n + m for m in range(1, 4)]
    assert len(victoria.export('{__name__=~"aq_value",station=~"vm.*"}')) == 18


STORM = [
    Fault(503, {"Retry-After": "7"}),
    Fault(429, {"Retry-After": "Thu, 01 Jan 2026 00:00:20 GMT"}),
    Fault(500, body=b"partial write: engine: write wal: no space left on device"),
    Fault(0),  # the connection is cut
    Fault(0, after=True),  # written, but nobody says so
    Fault(401, body=b'{"code":"unauthorized","message":"unauthorized access"}'),
    Fault(404, body=b'{"code":"not found","message":"bucket \\"aq\\" not found"}'),
    Fault(503, body=b"\xff\xfe not text"),
    Fault(302, {"Location": "http://127.0.0.1:1/"}),
    Fault(504),
    Fault(200, body=b"<html>Please log in</html>"),
    Fault(400, body=b"Client sent an HTTP request to an HTTPS server.\n"),
    Fault(400, body=b'{"message":"Bad Request"}'),  # a gateway's
]


def test_a_storm_is_sat_out_and_leaves_no_trace(influx, proxy, sink_to):
    through = proxy(influx.url, influx1=True)
    through.faults.extend(STORM)
    clock = Clockless()
    sink = sink_to(through.url, influx.database, clock, now=lambda: datetime(2026, 1, 1, 0, 0, 5, tzinfo=UTC))
    batch = [estimate(f"s{n}", end=T0 + 60 * m) for n in range(20) for m in range(1, 4)]
    assert sink.write(batch) == []
    assert everything(influx) == expected(batch)
    assert clock.waits[:2] == [7.0, 15.0]  # as asked: seconds, and a date
    assert clock.waits[2:] == [1.0, 2.0, 4.0, 8.0] + [15.0] * 7
    assert "influx.token" in clock.reasons[5]
    assert "skyfuse influx init" in clock.reasons[6]
    assert all("not in InfluxDB's words" in reason for reason in clock.reasons[-3:])


def test_a_server_that_is_gone_is_waited_for(influx, proxy, sink_to):
    through = proxy(influx.url, influx1=True)
    clock = Clockless(then=lambda count: through.up() if count == 20 else None)
    sink = sink_to(through.url, influx.database, clock)
    sink.write([estimate("s1")])
    through.down()  # also cuts the connection that the sink keeps
    assert sink.write([estimate("s2")]) == []
    assert len(clock.waits) == 20
    assert sum(clock.waits) > 60 * 3
    assert "cannot be reached" in clock.reasons[0]
    assert everything(influx) == expected([estimate("s1"), estimate("s2")])


@pytest.mark.parametrize(
    ("fault", "timeout"),
    [
        pytest.param(Fault(-1), 0.2, id="a silent server"),
        pytest.param(Fault(500, {"Content-Length": "999"}, after=True), 0.5, id="a cut within the answer"),
    ],
)
def test_what_gives_no_whole_answer_is_tried_again(influx, proxy, sink_to, fault, timeout):
    through = proxy(influx.url, influx1=True)
    through.faults.append(fault)
    clock = Clockless()
    sink = sink_to(through.url, influx.database, clock, timeout=timeout)
    assert sink.write([estimate("s1")]) == []
    assert 1 <= len(clock.waits) <= 4  # more than once where the machine is busy: the time-out is short
    assert everything(influx) == expected([estimate("s1")])


def test_a_slow_server_is_given_more_time(influx, proxy, sink_to):
    """One that needs longer than the time-out takes the batch in the end, instead of never."""
    through = proxy(influx.url, influx1=True)
    through.delays.extend([0.9] * 8)
    clock = Clockless()
    sink = sink_to(through.url, influx.database, clock, timeout=0.3)
    assert sink.write([estimate("s1")]) == []
    # After 0.3 and 0.6 s there can be no answer; 1.2 s are enough on an idle machine.
    assert 2 <= len(clock.waits) < 8
    assert everything(influx) == expected([estimate("s1")])


def test_a_server_that_takes_a_body_slowly_is_given_more_time(sink_to):
    """The body is larger than what sockets hold: it is the sending that takes too long."""
    taken: list[Any] = []

    def serve(listening):
        for pause in itertools.repeat(0.7):
            connection = listening.accept()[0]
            with connection, connection.makefile("rb") as request:
                headers = dict(
                    line.split(b":", 1) for line in iter(request.readline, b"\r\n") if b":" in line
                )
                stopped.wait(pause)
                try:
                    body = request.read(int(headers[b"Content-Length"]))
                    if len(body) == int(headers[b"Content-Length"]):
                        taken.append(body)
                        connection.sendall(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
                        return
                except OSError:
                    continue  # the sink has given up on this attempt

    stopped = threading.Event()
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        server = threading.Thread(target=serve, args=(listening,))
        server.start()
        clock = Clockless()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        sink = sink_to(url, "aq", clock, timeout=0.3, batch_lines=150_000, compress=False)
        batch = [estimate(f"s{n}") for n in range(3_000)]
        assert sink.write(batch) == []
        stopped.set()
        server.join(10)
    assert [body.count(b"\n") + 1 for body in taken] == [8 * 3_000]
    assert clock.waits
    assert "timed out" in clock.reasons[0]


def test_a_name_that_does_not_resolve_is_waited_for(sink_to):
    clock = Clockless(then=lambda count: count == 3)
    with pytest.raises(WaitStopped):
        sink_to("http://influx.invalid:8086", "aq", clock).write([estimate()])
    assert "cannot be reached" in clock.reasons[0]
    assert "influx.invalid" in clock.reasons[0]


def test_a_partial_write_of_version_3_is_searched(influx, proxy, sink_to):
    """201: some lines are written, some are not; the words list lines, but not surely all of them."""
    through = proxy(influx.url, influx1=True)
    words = b'{"error":"partial write of line protocol occurred","data":[{"line_number":3}]}'
    through.faults.append(Fault(201, body=words))
    clock = Clockless()
    sink = sink_to(through.url, influx.database, clock)
    batch = [estimate(f"s{n}") for n in range(4)]
    assert sink.write(batch) == []
    assert clock.waits == []
    assert everything(influx) == expected(batch)


def test_memory_stays_bounded_while_the_server_is_away(influx, proxy, sink_to):
    """The sink holds one batch, however often it is tried: no queue grows behind a wait."""
    through = proxy(influx.url, influx1=True)
    held = []

    def then(count):
        gc.collect()
        held.append(tracemalloc.get_traced_memory()[0])
        if count == 30:
            through.faults.clear()

    through.faults.extend([Fault(503)] * 1000)
    sink = sink_to(through.url, influx.database, Clockless(then))
    batch = [estimate(f"s{n}", end=T0 + 60 * m) for n in range(50) for m in range(1, 3)]
    tracemalloc.start()
    try:
        sink.write(batch)
    finally:
        tracemalloc.stop()
    assert len(held) == 30
    assert max(held[10:]) - min(held[10:]) < 200_000  # bytes; the batch itself is about 500 kB
    assert everything(influx) == expected(batch)


def test_one_bad_line_is_found_and_the_rest_is_written(influx, proxy, sink_to):
    through = proxy(influx.url, influx1=True)
    sink = sink_to(through.url, influx.database)
    # Longer than a key may be: InfluxDB refuses the line, and says so of the batch.
    endless = index(standard="s" * 70_000)
    batch = [estimate(f"s{n}", indices=(endless,) if n == 7 else None) for n in range(40)]
    (rejection,) = sink.write(batch)
    assert rejection.position == 7
    assert rejection.line.startswith("aqi,standard=sss")
    assert "key" in rejection.reason
    written = everything(influx)
    assert written == {key: fields for key, fields in expected(batch).items() if len(str(key)) < 1000}
    assert len(written) == 40 * 8 - 1
    assert through.requests <= 2 * 10  # halving 320 lines


def test_a_type_conflict_spoils_its_measurement_only(influx, proxy, sink_to):
    through = proxy(influx.url, influx1=True)
    sink = sink_to(through.url, influx.database)
    # Somebody wrote text under our name: InfluxDB fixes a field's type per measurement and shard.
    sink.write_points([Point("aqi", (), {"index": "high"}, T0 + 60)])
    batch = [estimate(f"s{n}") for n in range(40)]
    rejections = sink.write(batch)
    assert [one.position for one in rejections] == list(range(40))
    assert all("field type conflict" in one.reason for one in rejections)
    influx.query("DROP SERIES FROM aqi")
    assert everything(influx) == {k: v for k, v in expected(batch).items() if k[0] != "aqi"}
    assert through.requests <= 20


def test_all_lines_refused_at_once_are_not_halved(influx, proxy, sink_to):
    through = proxy(influx.url, influx1=True)
    influx.query(f'CREATE RETENTION POLICY short ON "{influx.database}" DURATION 1h REPLICATION 1 DEFAULT')
    sink = sink_to(through.url, influx.database)
    batch = [estimate(f"s{n}") for n in range(30)]  # beyond retention, each of them
    rejections = sink.write(batch)
    assert through.requests == 1
    assert len(rejections) == 30 * 8
    assert {one.position for one in rejections} == set(range(30))
    assert "retention policy" in rejections[0].reason


def test_a_batch_too_large_for_the_server_is_halved(influx, proxy, sink_to):
    through = proxy(influx.url, influx1=True)
    through.faults.extend([Fault(413), Fault(413)])
    sink = sink_to(through.url, influx.database)
    batch = [estimate(f"s{n}") for n in range(8)]
    assert sink.write(batch) == []
    assert everything(influx) == expected(batch)


def test_an_estimate_that_is_no_point_does_not_harm_the_others(influx, proxy, sink_to):
    sink = sink_to(proxy(influx.url, influx1=True).url, influx.database)
    good = estimate("good")
    window = Window(start=from_ms(T0 * 1000), end=from_ms(T0 * 1000 + 500))
    (rejection,) = sink.write([estimate("bad", window=window), good])
    assert rejection.position == 0
    assert "whole second" in rejection.reason
    assert everything(influx) == expected([good])


def test_older_revisions_in_a_batch_are_not_sent(influx, proxy, sink_to):
    through = proxy(influx.url, influx1=True)
    sink = sink_to(through.url, influx.database)
    newest = estimate(revision=5)
    sink.write([estimate(revision=1), newest, estimate(revision=3)])
    assert everything(influx) == expected([newest])


def test_a_worker_that_stops_does_not_wait(proxy, influx):
    through = proxy(influx.url, influx1=True)
    through.down()
    stopping = threading.Event()
    patience = Patience.until(stopping, on_wait=lambda *_: stopping.set())
    sink = InfluxSink(InfluxBucket(through.url, "o", "b"), "t", patience)
    with pytest.raises(WaitStopped):
        sink.write([estimate()])
    sink.close()


def test_an_address_that_is_none_is_refused():
    with pytest.raises(SinkSettingError, match="http://influx:8086"):
        InfluxSink(InfluxBucket("influx:8086", "o", "b"), "t", Clockless().patience())


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("token", "secret\n", "line end"),
        ("org", "", "must not be empty"),
        ("bucket", "", "must not be empty"),
    ],
)
def test_settings_that_cannot_be_right_are_refused(field, value, words):
    given = {"org": "o", "bucket": "b", "token": "t", field: value}
    patience = Clockless().patience()
    with pytest.raises(SinkSettingError, match=words):
        InfluxSink(
            InfluxBucket("http://influx:8086", given["org"], given["bucket"]), given["token"], patience
        )


def test_batches_are_made_ahead_and_all_arrive(influx, proxy, sink_to):
    """A refused line of an early batch is found, later ones arrive, owners are right."""
    through = proxy(influx.url, influx1=True)
    sink = sink_to(through.url, influx.database, batch_lines=40)
    endless = index(standard="s" * 70_000)
    batch = [estimate(f"s{n}", indices=(endless,) if n in (2, 17) else None) for n in range(30)]
    assert [rejection.position for rejection in sink.write(batch)] == [2, 17]
    written = everything(influx)
    assert written == {key: fields for key, fields in expected(batch).items() if len(str(key)) < 1000}


@pytest.mark.parametrize("compress", [True, False])
def test_compressed_or_not_the_same_is_written(influx, proxy, sink_to, compress):
    through = proxy(influx.url, influx1=True)
    through.faults.extend([Fault(503), Fault(0)])
    sink = sink_to(through.url, influx.database, batch_lines=80, compress=compress)
    endless = index(standard="s" * 70_000)
    batch = [estimate(f"s{n}", indices=(endless,) if n == 17 else None) for n in range(40)]
    assert [rejection.position for rejection in sink.write(batch)] == [17]
    assert everything(influx) == {k: v for k, v in expected(batch).items() if len(str(k)) < 1000}
    assert (through.bodies < 60_000) == compress  # 100 kB of lines, the longest of them sent several times


@pytest.mark.parametrize(
    ("host", "own"),
    [
        ("localhost", True), ("influx.localhost", True), ("127.0.0.1", True), ("127.8.8.8", True),
        ("::1", True), ("influx", False), ("10.0.0.5", False), ("localhost.example.org", False),
    ],
)  # fmt: skip
def test_what_is_on_this_machine(host, own):
    assert on_this_machine(host) is own


def test_a_server_with_a_full_disk_is_waited_for(tmp_path, proxy, sink_to):
    """No file of InfluxDB's may grow; later it is started again with space. Nothing is missing then.

    (The WAL writer of 1.6 never recovers by itself: its buffer keeps the error.)
    """
    with ExitStack() as engines:
        influx = engines.enter_context(influxdb(tmp_path))
        sink_clock = Clockless(then=lambda count: restart() if count == 3 else None)
        sink = sink_to(proxy(influx.url, influx1=True).url, influx.database, sink_clock)
        sink.write([estimate("before")])

        def restart():
            engines.close()
            engines.enter_context(influxdb(tmp_path, port=urlsplit(influx.url).port))

        resource.prlimit(influx.process.pid, resource.RLIMIT_FSIZE, (1, -1))
        batch = [estimate(f"s{n}") for n in range(200)]
        assert sink.write(batch) == []
        assert len(sink_clock.waits) == 3
        assert "file too large" in sink_clock.reasons[0]
        assert everything(influx) == expected([estimate("before"), *batch])
