"""Replay: every event once, in event-time order, between true watermarks; bad rows are sent or reported."""

import csv
import gc
import io
import json
import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka import KafkaConsumer, TopicPartition
from rich.console import Console

from cli.shared.progress import shown
from datasets.errors import SourceError
from datasets.events import FrameRow, ReadingRow
from datasets.plain import Contents, read_plain
from datasets.spool import Spool
from infra.stack.broker import EmbeddedBroker
from schemas.base import to_ms
from schemas.features import Punctuation
from schemas.frame import accept_header
from schemas.reading import accept
from settings.sections import KafkaSettings, Settings, WindowSettings
from sources.replay.feed import ReplayProgress, feed
from sources.replay.timeline import Message, timeline
from streams.admin import create_topics
from streams.topics import FRAMES, READINGS, STATIONS

_NOW_MS = 1_790_000_000_000
_START_MS = 1_700_000_000_000
_WINDOW = WindowSettings()
_SIZE_MS = 60_000
_SHARED = Path(__file__).parents[3] / "shared" / "data" / "india-nepal"


def _messages(spool: Spool, partitions: int = 3) -> list[Message]:
    return list(timeline(spool.ordered(), spool.span(), partitions=partitions, window=_WINDOW, source="test"))


_events = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "c"]),
        st.integers(_START_MS, _START_MS + 600_000) | st.sampled_from(["2023-11-14 22:13", 17, "never", ""]),
        st.sampled_from(["pm25", "co", "frame"]),
    ),
    max_size=60,
)


@given(_events, st.integers(1, 4))
def test_every_event_once_in_order_and_nothing_earlier_than_a_watermark(
    events: list[tuple[str, int | str, str]], partitions: int
) -> None:
    with Spool(_NOW_MS) as spool:
        spool.begin()
        for number, (station, stated, what) in enumerate(events):
            spool.add(
                FrameRow(station, stated, "main", f"{number}.jpg", str(number))
                if what == "frame"
                else ReadingRow(station, stated, what, float(number), "ug/m3")
            )
        assert len(spool) == len(events)
        messages = _messages(spool, partitions)

    sent: list[tuple[str, int | str, str, int]] = []
    times: list[int] = []
    marks: dict[tuple[str, int | None], list[int]] = defaultdict(list)
    for message in messages:
        if message.key is None:
            mark = Punctuation.model_validate_json(message.value)  # type: ignore[arg-type]
            assert mark.at is not None
            marks[message.topic, message.partition].append(to_ms(mark.at))
            continue
        station = message.key.decode()
        if isinstance(message.value, Path):
            number = int(message.value.stem)
            sent.append((station, events[number][1], "frame", number))
            timed = isinstance(events[number][1], int) and events[number][1] != 17
        else:
            body = json.loads(message.value)
            assert len({(row["parameter"], row["value"]) for row in body["values"]}) == message.values
            sent += [
                (station, body["observed_at"], row["parameter"], int(row["value"])) for row in body["values"]
            ]
            timed = accept(message.value)[0] is not None
        if timed:
            assert message.time_ms is not None
            times.append(message.time_ms)
            # What has been promised on any partition holds: nothing earlier follows.
            assert all(message.time_ms >= mark for given in marks.values() for mark in given)
    expected = [(station, stated, what, number) for number, (station, stated, what) in enumerate(events)]
    assert sorted(sent, key=str) == sorted(expected, key=str)
    assert times == sorted(times)

    if not times:
        assert not marks
        return
    assert set(marks) == {(topic, p) for topic in (FRAMES.name, READINGS.name) for p in range(partitions)}
    for given_marks in marks.values():
        assert given_marks == sorted(given_marks)
        assert given_marks[0] == times[0]
        # The last event's window is closed, and past any revision.
        end = (times[-1] // _SIZE_MS + 1) * _SIZE_MS
        assert given_marks[-1] >= end + 5_000 + 600_000 + 2_000
        # No stretch of event time longer than a window and the gap between two events goes without a mark.
        for earlier, later in pairwise(times):
            assert any(later - _SIZE_MS < mark <= later for mark in given_marks) or later - earlier < _SIZE_MS


def test_rows_of_one_station_and_time_are_one_message_also_across_files() -> None:
    with Spool(_NOW_MS) as spool:
        for parameter, sensor in (("pm25", None), ("no2", "second")):
            spool.begin()
            for minute in range(3):
                spool.add(ReadingRow("a", _START_MS + minute * 60_000, parameter, 1.0, "ug/m3", sensor))
        readings = [m for m in _messages(spool) if m.topic == READINGS.name and m.key]
    assert len(readings) == 3
    for message in readings:
        assert isinstance(message.value, bytes)
        reading, refused = accept(message.value)
        assert refused is None
        assert reading is not None
        assert {(value.parameter, value.sensor) for value in reading.values} == {
            ("pm25", "main"),
            ("no2", "second"),
        }


def test_no_message_holds_more_values_than_a_reading_may() -> None:
    with Spool(_NOW_MS) as spool:
        for number in range(600):
            spool.add(ReadingRow("a", _START_MS, "pm25", 1.0, "ug/m3", f"s{number}"))
        sizes = [message.values for message in _messages(spool) if message.key]
    assert sizes == [256, 256, 88]


def test_a_declared_period_travels_and_watermarks_wait_for_it() -> None:
    hour = 3_600_000
    with Spool(_NOW_MS) as spool:
        for number in range(3):
            time = _START_MS + number * hour
            spool.add(ReadingRow("a", time, "pm25", 1.0, "ug/m3", period=3600))
            spool.add(ReadingRow("a", time, "no2", 2.0, "ug/m3", period=900, stamp="begins"))
        assert spool.before_ms == hour, "what begins at its time stands for nothing before it"
        messages = list(
            timeline(
                spool.ordered(), spool.span(), partitions=1, window=_WINDOW, source="test",
                before_ms=spool.before_ms, now_ms=_NOW_MS,
            )
        )  # fmt: skip
    told: list[int] = []
    for message in messages:
        assert isinstance(message.value, bytes)
        if message.key is None:
            mark = Punctuation.model_validate_json(message.value)
            assert mark.at is not None
            told.append(to_ms(mark.at))
        else:
            reading, refused = accept(message.value)
            assert refused is None
            assert reading is not None
            assert (reading.period, reading.stamp) in {(3600, "ends"), (900, "begins")}
            assert max(told) <= to_ms(reading.observed_at) - hour
    # The last reading stands for an hour, and a tenth of it longer until the next one is due.
    assert told[-1] >= _START_MS + 2 * hour + hour * 11 // 10 + 607_000


def test_no_watermark_goes_far_beyond_now() -> None:
    with Spool(_NOW_MS) as spool:
        spool.add(ReadingRow("a", _NOW_MS - 60_000, "pm25", 1.0, "ug/m3"))
        messages = list(
            timeline(
                spool.ordered(), spool.span(), partitions=1, window=_WINDOW, source="test", now_ms=_NOW_MS
            )
        )
    assert messages[-1].time_ms == _NOW_MS + 607_000 + 2 * _SIZE_MS


@pytest.mark.parametrize(
    ("cell", "sent"),
    [("3600", 3600), ("1h", 3600), ("", None), ("145", 145), ("0.5", "0.5"), ("long", "long")],
)
def test_the_column_of_periods(tmp_path: Path, cell: str, sent: int | str | None) -> None:
    head = ("station", "time", "parameter", "value", "unit", "period", "stamp")
    rows = [head, ("a", "2023-11-14T22:14:00Z", "pm25", "1", "ug/m3", cell, "begins" if cell else "")]
    _table(tmp_path / "readings.csv", rows)
    _, messages, _ = _read(tmp_path)
    [body] = [json.loads(m.value) for m in messages if m.key and isinstance(m.value, bytes)]
    assert (body.get("period"), body.get("stamp")) == (sent, "begins" if cell else None)
    assert (accept(json.dumps(body).encode())[0] is not None) == (sent is None or isinstance(sent, int))


def test_frames_carry_what_they_state() -> None:
    with Spool(_NOW_MS) as spool:
        spool.add(FrameRow("a", _START_MS, "roof", "one.png", "one"))
        spool.add(FrameRow("b", "2024-01-01 10:00", "main", "two.jpg", "two"))
        spool.add(FrameRow("c", _START_MS, "main", "three.WEBP", "three"))
        two, one, three = sorted(
            (message for message in _messages(spool) if message.key), key=lambda message: message.key != b"b"
        )
    header = accept_header(one.headers)
    assert (header.station, header.camera, header.id, header.content_type) == (
        "a",
        "roof",
        "one",
        "image/png",
    )
    assert to_ms(header.time) == _START_MS
    assert accept_header(three.headers).content_type == "image/webp"
    assert dict(two.headers)["ce_time"] == b"2024-01-01 10:00"


def _table(file: Path, rows: Iterable[Iterable[object]]) -> None:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    file.write_text(text.getvalue(), encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder in the plain layout with every kind of good and bad row."""
    root = tmp_path / "data"
    (root / "readings").mkdir(parents=True)
    (root / "stations.json").write_text(
        json.dumps([{"station": "a", "latitude": 50.0, "longitude": 8.0}, {"station": "b", "altitude": 3}])
    )
    head = ("station", "time", "parameter", "value", "unit", "sensor", "comment")
    _table(
        root / "readings.csv",
        [
            head,
            ("a", "2023-11-14T22:14:00Z", "pm25", "12.5", "ug/m3", "", "good"),
            ("a", "2023-11-14T22:14:00Z", "no2", "", "ppb", "", "blank: no measurement"),
            ("a", "2023-11-14T22:13:00Z", "pm25", "11", "ug/m3", "", "out of order"),
            ("a", "2023-11-14T22:14:00Z", "o3", "nan", "ug/m3", "", "refused by the pipeline"),
            ("a", "2023-11-14 22:14", "co", "1", "ug/m3", "", "naive"),
            ("a", "1700000000", "co", "1", "ug/m3", "", "seconds"),
            ("a", "2100-01-01T00:00:00Z", "co", "1", "ug/m3", "", "future"),
            ("a", "1700000060000", "co", "1_0", "ug/m3", "", "no number"),
            ("a", "2023-11-14T22:15:00Z", "pm25"),
            ("a", "2023-11-14T22:15:00Z", "pm25", "1", "ug/m3", "", "", "too many"),
        ],
    )
    with (root / "readings.csv").open("ab") as file:
        file.write(b"a\xff,2023-11-14T22:15:00Z,pm25,1,ug/m3,,\r\n")
    times = pa.array([_START_MS, _START_MS + 30_000, None], pa.timestamp("ms", tz="UTC"))
    columns = {
        "station": ["c"] * 3,
        "time": times,
        "parameter": ["so2"] * 3,
        "value": [1.0, None, 3.0],
        "unit": ["ppb"] * 3,
    }
    pq.write_table(pa.table(columns), root / "readings" / "c.parquet")
    (root / "images").mkdir()
    (root / "images" / "one.jpg").write_bytes(b"any bytes")
    _table(
        root / "frames.csv",
        [
            ("path", "station", "time", "camera"),
            ("images/one.jpg", "a", "2023-11-14T22:13:30Z", "roof"),
            ("images/two.jpg", "a", "2023-11-14T22:13:30Z", "roof"),
        ],
    )
    return root


def _read(root: Path) -> tuple[Contents, list[Message], int]:
    with Spool(_NOW_MS) as spool:
        contents = read_plain(root, spool)
        return contents, _messages(spool), spool.untimed


def test_bad_rows_are_sent_as_they_are_or_reported_with_their_line(folder: Path) -> None:
    contents, messages, untimed = _read(folder)
    assert [station.station for station in contents.stations] == ["a"]
    reported = [str(problem).replace(str(folder) + "/", "") for problem in contents.problems]
    assert len(reported) == 6
    for beginning in (
        "stations.json, station 2: station record: altitude",
        "readings.csv:10: the row ends before column value; not sent",
        "readings.csv:11: 1 cells more than the header",
        "readings.csv:12: column station is not UTF-8",
        "readings/c.parquet, row 3: column time is null",
        "frames.csv:3: frame images/two.jpg does not exist",
    ):
        assert any(line.startswith(beginning) for line in reported), (beginning, reported)
    assert contents.blanks == 2
    assert untimed == 3

    codes = []
    good = []
    for message in messages:
        if message.topic == READINGS.name and message.key:
            assert isinstance(message.value, bytes)
            reading, refused = accept(message.value)
            if refused:
                codes.append(refused.code)
            if reading:
                good += [
                    (reading.station, to_ms(reading.observed_at), v.parameter, v.value)
                    for v in reading.values
                ]
    assert sorted(codes) == ["float_type", "naive_time", "not_finite", "time_in_seconds"]
    minute = _START_MS // _SIZE_MS * _SIZE_MS
    assert good[:3] == [
        ("a", minute, "pm25", 11.0),
        ("c", _START_MS, "so2", 1.0),
        ("a", minute + _SIZE_MS, "pm25", 12.5),
    ]
    # The clock of 2100 is sent for the pipeline to refuse, and moves no watermark.
    assert good[3][2:] == ("co", 1.0)
    assert max(message.time_ms or 0 for message in messages) < _NOW_MS


def test_what_is_no_layout_is_said_before_anything_is_sent(tmp_path: Path) -> None:
    with Spool(_NOW_MS) as spool:
        with pytest.raises(SourceError, match="is no folder"):
            read_plain(tmp_path / "nowhere", spool)
        with pytest.raises(SourceError, match="neither readings"):
            read_plain(tmp_path, spool)
        _table(tmp_path / "readings.csv", [("station", "when", "parameter", "value", "unit")])
        with pytest.raises(SourceError, match="time missing; found: station, when"):
            read_plain(tmp_path, spool)
        (tmp_path / "readings.csv").unlink()
        (tmp_path / "readings.parquet").write_bytes(b"no Parquet")
        with pytest.raises(SourceError, match="as Parquet"):
            read_plain(tmp_path, spool)
        (tmp_path / "stations.json").write_text("{}")
        with pytest.raises(SourceError, match="holds no list"):
            read_plain(tmp_path, spool)


def test_stations_as_a_table(tmp_path: Path) -> None:
    _table(tmp_path / "frames.csv", [("station", "time", "path")])
    _table(
        tmp_path / "stations.csv",
        [
            ("station", "name", "latitude", "longitude", "standards", "cameras"),
            ("a", "A place", "50.5", "8.5", "in-naqi-2014 us-epa-2024", "north south"),
            ("b", "", "", "", "", ""),
            ("c", "", "north", "", "", ""),
        ],
    )
    contents, _, _ = _read(tmp_path)
    first, second = contents.stations
    assert (first.name, first.latitude, first.standards) == ("A place", 50.5, ("in-naqi-2014", "us-epa-2024"))
    assert [camera.camera for camera in first.cameras] == ["north", "south"]
    assert second.latitude is None
    assert "stations.csv:4: station record: latitude" in str(contents.problems[0])


Make = Callable[..., Settings]


def _all_records(
    settings: Settings, topic: str
) -> dict[int, list[tuple[bytes | None, bytes, dict[str, bytes]]]]:
    """Per partition, (key, value, headers) in order, up to the end."""
    found: dict[int, list[tuple[bytes | None, bytes, dict[str, bytes]]]] = defaultdict(list)
    name = settings.kafka.prefix + topic
    with KafkaConsumer(bootstrap_servers=settings.kafka.bootstrap, auto_offset_reset="earliest") as consumer:
        partitions = [TopicPartition(name, number) for number in sorted(consumer.partitions_for_topic(name))]
        consumer.assign(partitions)
        ends = consumer.end_offsets(partitions)
        while any(consumer.position(partition) < ends[partition] for partition in partitions):
            for partition, records in consumer.poll(1000).items():
                found[partition.partition] += [(r.key, r.value, dict(r.headers)) for r in records]
    return found


@pytest.mark.broker
def test_a_folder_arrives_whole_and_in_order_on_kafka(folder: Path, kafka_settings: Make) -> None:
    settings = kafka_settings(partitions=3)
    with pytest.raises(SourceError, match="does not exist: run `skyfuse topics`"):
        feed(settings, folder)
    create_topics(settings)
    told: list[ReplayProgress] = []
    summary = feed(settings, folder, progress=told.append)
    assert (summary.stations, summary.frames, summary.values, summary.untimed) == (2, 1, 8, 3)
    assert summary.records == 1
    assert (summary.blanks, summary.not_sent, summary.complete, summary.whole) == (2, 6, True, False)
    assert told[-1].sent == told[-1].total == 9

    readings = _all_records(settings, READINGS.name)
    frames = _all_records(settings, FRAMES.name)
    assert len(readings) == len(frames) == 3
    everything = [record for records in (*readings.values(), *frames.values()) for record in records]
    assert sum(key is None for key, _, _ in everything) == summary.watermarks
    assert sum(key is not None for key, _, _ in everything) == summary.frames + summary.readings
    for records in (*readings.values(), *frames.values()):
        assert records[0][0] is None, "a watermark comes first"
        assert records[-1][0] is None, "a watermark comes last"
    [(key, value, headers)] = [record for record in everything if b"any bytes" in record[1]]
    assert (key, headers["ce_camera"]) == (b"a", b"roof")
    assert value == b"any bytes"
    stations = [record for records in _all_records(settings, STATIONS.name).values() for record in records]
    assert [key for key, _, _ in stations] == [b"a"]


@pytest.mark.broker
def test_a_stopped_replay_says_so_and_speed_is_kept(folder: Path, kafka_settings: Make) -> None:
    settings = kafka_settings(partitions=1)
    create_topics(settings)
    stop = threading.Event()

    def after_the_first(progress: ReplayProgress) -> None:
        assert progress.sent == 1, "at a tenth of real time the second event is minutes away"
        stop.set()

    summary = feed(settings, folder, speed=0.1, progress=after_the_first, stop=stop)
    assert not summary.complete
    assert not summary.whole
    with pytest.raises(SourceError, match="has to be positive"):
        feed(settings, folder, speed=0.0)
    with pytest.raises(SourceError, match="unknown format"):
        feed(settings, folder, "zip")


@pytest.mark.broker
def test_a_frame_too_large_for_kafka_is_reported_and_the_rest_is_sent(
    tmp_path: Path, kafka_settings: Make
) -> None:
    settings = kafka_settings(partitions=1)
    create_topics(settings)
    (tmp_path / "big.jpg").write_bytes(bytes(15 * 1024 * 1024))
    (tmp_path / "small.jpg").write_bytes(b"small")
    rows = [("a", "2023-11-14T22:13:30Z", "big.jpg"), ("a", "2023-11-14T22:13:31Z", "small.jpg")]
    _table(tmp_path / "frames.csv", [("station", "time", "path"), *rows])
    summary = feed(settings, tmp_path)
    assert (summary.frames, summary.not_sent) == (1, 1)
    assert "more than the broker takes" in summary.problems[0].what


@pytest.mark.broker
@pytest.mark.realdata
@pytest.mark.skipif(not _SHARED.is_dir(), reason="../shared/data is not here")
def test_india_nepal_as_it_is(kafka_settings: Make) -> None:
    from datasets.groups import india_nepal

    settings = kafka_settings(partitions=4)
    create_topics(settings)
    summary = feed(settings, _SHARED, "india-nepal")
    groups = list(india_nepal(_SHARED))
    assert summary.frames == sum(len(group.frames) for group in groups)
    assert summary.whole
    # Each group's frames and reading lie in the window that begins at the group's time, as distinct captures.
    seen: dict[tuple[str, int], set[int]] = defaultdict(set)
    for records in _all_records(settings, FRAMES.name).values():
        for key, _, headers in records:
            if key is not None:
                at = to_ms(accept_header(headers.items()).time)
                seen[key.decode(), at // _SIZE_MS * _SIZE_MS].add(at)
    assert {place: len(times) for place, times in seen.items()} == {
        (group.site.station, to_ms(group.time)): len(group.frames) for group in groups
    }
    readings = {
        (reading.station, to_ms(reading.observed_at))
        for records in _all_records(settings, READINGS.name).values()
        for key, value, _ in records
        if key is not None and (reading := accept(value)[0]) is not None
    }
    assert readings == {(group.site.station, to_ms(group.time)) for group in groups}


def test_progress_without_a_terminal_is_lines() -> None:
    output = io.StringIO()
    console = Console(file=output, force_terminal=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cli.shared.progress._EVERY_S", 0.0)
        with shown(console, "replay") as update:
            update(ReplayProgress(3, 10, _START_MS))
    assert output.getvalue() == "replay: 3 of 10 events, at 2023-11-14T22:13:20Z\n"
    terminal = Console(file=io.StringIO(), force_terminal=True)
    with shown(terminal, "replay") as update:
        update(ReplayProgress(3, 10, None))


@pytest.mark.broker
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
def test_a_broker_killed_in_the_middle_costs_nothing(
    restartable_broker: EmbeddedBroker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # What kafka-python logs of a refused connection keeps its socket alive beyond this test.
    caplog.set_level(logging.CRITICAL, "kafka")
    broker = restartable_broker
    kafka = KafkaSettings(bootstrap=broker.bootstrap, partitions=2)
    settings = Settings(kafka=kafka, data_dir=tmp_path)
    create_topics(settings)
    times = [(f"s{number % 7}", _START_MS + 1000 * number) for number in range(20_000)]
    _table(
        tmp_path / "readings.csv",
        [
            ("station", "time", "parameter", "value", "unit"),
            *((station, at, "pm25", at % 977, "ug/m3") for station, at in times),
        ],
    )
    killer: list[threading.Thread] = []

    def power_cut(progress: ReplayProgress) -> None:
        if progress.sent == 10_000:

            def cut() -> None:
                broker.kill()
                broker.start()

            killer.append(threading.Thread(target=cut))
            killer[0].start()

    summary = feed(settings, tmp_path, progress=power_cut)
    killer[0].join()
    assert summary.whole
    got = [
        (key.decode(), json.loads(value)["observed_at"])
        for records in _all_records(settings, READINGS.name).values()
        for key, value, _ in records
        if key is not None
    ]
    assert sorted(got) == sorted(times), "nothing missing, nothing twice"
    for station in {station for station, _ in times}:
        own = [at for name, at in got if name == station]
        assert own == sorted(own), "in order"
    gc.collect()  # kafka-python leaves each refused connection to the collector; its warning belongs here
