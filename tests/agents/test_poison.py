"""Bad input of every kind: it ends in the dead letters, bytes and reason, and nothing else changes."""

import base64
import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from camera.picture_file import may_show
from cli.main import app
from infra.connect import environment
from schemas.base import from_ms
from schemas.estimate import Inputs
from schemas.frame import FrameHeader
from settings.sections import Settings
from streams import topics
from tests.harness import (
    NOON,
    REPLAY,
    Sent,
    city,
    expected_windows,
    fleet,
    frame,
    picture,
    punctuations,
    read_all,
    reading,
    send,
    stored,
    until,
)
from tests.samples import estimate, measured

pytestmark = pytest.mark.broker

STATION = "st-0"
GOOD = {
    "station": STATION,
    "observed_at": NOON + 61_000,
    "values": [{"parameter": "no2", "value": 9.5, "unit": "ppb"}],
}


def changed(**changes: Any) -> bytes:
    return json.dumps(GOOD | changes).encode()


def one_value(**changes: Any) -> bytes:
    return changed(values=[GOOD["values"][0] | changes])  # type: ignore[index]


def huge_png() -> bytes:
    """A 20,000 x 20,000 picture in a few bytes of file."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


def bad_reading(value: bytes | None, key: bytes | None = STATION.encode()) -> Sent:
    return Sent(topics.READINGS, key, value)


def bad_frame(data: bytes | None, key: bytes | None = STATION.encode(), **header: Any) -> Sent:
    plain = FrameHeader(id="bad", source="/test", time=from_ms(NOON + 62_000), station=STATION).to_headers()
    changed = {**dict(plain), **header}
    return Sent(topics.FRAMES, key, data, tuple((k, v) for k, v in changed.items() if v is not None))


def bad_estimate(before: object, after: str) -> Sent:
    """A foreign producer's estimate in which the JSON of `before` is `after`."""
    plain = estimate(
        STATION, revision=77, pollutants={"pm25": measured(12.0, raw=None)}, inputs=Inputs(readings=3)
    )
    text, was = plain.model_dump_json(), f":{json.dumps(before)}"
    assert text.count(was) == 1
    return Sent(topics.ESTIMATES, STATION.encode(), text.replace(was, f":{after}").encode())


def bad_features(frame: list[float], haze: list[float], **changes: Any) -> Sent:
    """Features of a foreign producer."""

    def packed(values: list[float]) -> str:
        return base64.b64encode(struct.pack(f"<{len(values)}f", *values)).decode()

    plain = {
        "station": STATION,
        "camera": "main",
        "captured_at": NOON + 61_000,
        "frame_id": "bad",
        "sha256": "0" * 64,
        "bundle": "foreign",
        "embeddings": {"frame": packed(frame)},
        "haze": packed(haze),
        "quality": {"usable": True},
    }
    return Sent(topics.FEATURES, STATION.encode(), json.dumps(plain | changes).encode())


POISON: dict[str, tuple[Sent, str, str]] = {
    "not json": (bad_reading(b"{nonsense"), "not_json", "not JSON"),
    "invalid utf-8": (bad_reading(b'{"station":"\xff\xfe"}'), "not_json", "not JSON"),
    "empty": (bad_reading(b""), "not_json", "not JSON"),
    "no value": (bad_reading(None), "empty", "no value"),
    "no key": (bad_reading(changed(), key=None), "no_key", "no key"),
    "wrong key": (bad_reading(changed(), key=b"st-1"), "key_mismatch", "st-1"),
    "binary key": (bad_reading(changed(), key=b"\xff\xfe"), "key_mismatch", "UTF-8"),
    "naive time": (bad_reading(changed(observed_at="2026-08-21T10:00:00")), "naive_time", "no zone"),
    "seconds": (bad_reading(changed(observed_at=NOON // 1000)), "time_in_seconds", "milliseconds"),
    "1970": (bad_reading(changed(observed_at="1970-01-01T00:10:00Z")), "time_out_of_range", "2000"),
    "2100": (bad_reading(changed(observed_at="2100-01-01T00:00:00Z")), "future_time", "clock"),
    "year 10000": (bad_reading(changed(observed_at=10**17)), "time_out_of_range", "date"),
    "nan": (bad_reading(one_value(value=float("nan"))), "not_finite", "leave a missing value out"),
    "infinite": (bad_reading(one_value(value=float("inf"))), "not_finite", "inf"),
    "negative": (bad_reading(one_value(value=-12.0)), "out_of_range", "outside the physical range"),
    "absurd": (bad_reading(one_value(value=1e12)), "out_of_range", "outside the physical range"),
    "text value": (bad_reading(one_value(value="12.0")), "float_type", "values.0.value"),
    "unknown parameter": (bad_reading(one_value(parameter="pm3")), "literal_error", "pm25"),
    "unknown unit": (bad_reading(one_value(unit="grains")), "unit", "ppb"),
    "unknown field": (bad_reading(changed(extra=1)), "extra_forbidden", "extra"),
    "5 MB": (bad_reading(changed(pad="x" * 5_000_000)), "too_large", "limit"),
    "frame without headers": (Sent(topics.FRAMES, STATION.encode(), b"x"), "missing_header", "ce_time"),
    "frame of a wrong key": (bad_frame(picture(1, 1), key=b"other"), "key_mismatch", "other"),
    "frame in naive time": (bad_frame(picture(1, 2), ce_time=b"2026-08-21T10:00:00"), "naive_time", "zone"),
    "frame of 2100": (bad_frame(picture(1, 3), ce_time=b"2100-01-01T00:00:00Z"), "future_time", "clock"),
    "frame with bad utf-8": (bad_frame(picture(1, 4), ce_id=b"\xff"), "not_utf8", "ce_id"),
    "no picture": (bad_frame(None), "empty", "no value"),
    "empty picture": (bad_frame(b""), "", ""),
    "text as picture": (bad_frame(b"this is no image"), "", ""),
    "truncated": (bad_frame(picture(1, 1)[:2000]), "", ""),
    "20,000 x 20,000": (bad_frame(huge_png()), "", ""),
    "5 MB frame": (bad_frame(b"\xff\xd8" + b"x" * 5_000_000), "too_large", "limit"),
    "station of an unknown standard": (
        Sent(topics.STATIONS, STATION.encode(), b'{"station":"st-0","standards":["mars-1"]}'),
        "unknown_name",
        "mars-1",
    ),
    "estimate of NaN": (bad_estimate(12.0, "NaN"), "not_finite", "pollutants.pm25.value is nan"),
    "estimate of infinity": (bad_estimate(12.0, "1e999"), "not_finite", "pollutants.pm25.value is inf"),
    "estimate of a year that no series has": (
        bad_estimate("2026-01-01T00:01:00Z", '"9999-12-31T00:00:00Z"'),
        "not_a_window",
        "before 2262",
    ),
    "estimate of a revision beyond 64 bits": (
        bad_estimate(77, "1" + "0" * 30),
        "less_than_equal",
        "revision",
    ),
    "features of NaN": (
        bad_features([float("nan")] * 128, [0.5] * 20),
        "not_finite",
        "embeddings.frame: a value is nan",
    ),
    "features of half a vector": (
        bad_features([0.5] * 64, [0.5] * 20),
        "wrong_size",
        "embeddings.frame has 64 values instead of 128",
    ),
    "features without haze": (
        bad_features([0.5] * 128, []),
        "wrong_size",
        "haze has 0 values instead of 20",
    ),
    "punctuation of nothing": (
        Sent(topics.READINGS, None, b"{}", (("ce_type", b"skyfuse.punctuation.v1"),), 0),
        "missing",
        "kind",
    ),
}


def test_poison_ends_in_the_dead_letters_and_nothing_else_changes(
    kafka_settings: Callable[..., Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = kafka_settings(partitions=2, window=REPLAY)
    records = city(seed=3, stations=3, minutes=3, partitions=2)
    end = records[-4:]  # the punctuations that end it, sent last
    records = records[:-4]
    wanted = expected_windows(records)
    partly = {
        "station": "st-1",
        "observed_at": NOON + 30_000,
        "values": [
            {"parameter": "pm10", "value": 33.0, "unit": "ug/m3", "sensor": "second"},
            {"parameter": "no2", "value": -50.0, "unit": "ppb", "sensor": "second"},
        ],
    }
    mixed = list(records)
    for index, (poison, _, _) in enumerate(POISON.values()):
        mixed.insert(20 + index * 3, poison)
    mixed.insert(10, Sent(topics.READINGS, b"st-1", json.dumps(partly).encode()))
    with fleet(settings, tmp_path) as workers:
        send(settings, mixed)
        total = len(POISON) + 1
        letters = until(
            "the dead letters",
            lambda: (
                workers.check() and len(found := read_all(settings, topics.DEAD_LETTERS)) >= total and found
            ),
            90,
        )
        assert len(letters) == total
        left = list(letters)
        for name, (poison, code, words) in POISON.items():
            # A picture stays on its topic, for as long as frames are kept.
            picture = poison.topic is topics.FRAMES and poison.value and may_show(poison.value)
            whole = settings.kafka.prefix + poison.topic.name, poison.key, None if picture else poison.value
            told = [
                letter
                for letter in left
                if (headers := dict(letter.headers))
                and (headers["x-dlq-topic"].decode(), letter.key, letter.value) == whole
                and headers["x-dlq-code"].decode() == (code or headers["x-dlq-code"].decode())
                and words in headers["x-dlq-reason"].decode()
            ]
            assert told, name
            left.remove(told[0])
            headers = dict(told[0].headers)
            for key, value in poison.headers:
                assert headers[key] == value, name
        (rest,) = left
        assert rest.key == b"st-1"
        assert json.loads(rest.value or b"") == partly
        assert dict(rest.headers)["x-dlq-partly-used"] == b"True"

        # A person mends one and sends it back, with the command.
        for name, text in environment(settings).items():
            monkeypatch.setenv(name, text)
        story = next(
            dict(letter.headers) for letter in letters if letter.value == POISON["negative"][0].value
        )
        identity = "/".join(story[f"x-dlq-{part}"].decode() for part in ("topic", "partition", "offset"))
        mended = tmp_path / "mended.json"
        mended.write_bytes(changed(observed_at=NOON + 70_000, values=[GOOD["values"][0] | {"value": 12.0}]))  # type: ignore[index]
        result = CliRunner().invoke(app, ["dlq", "redrive", identity, "--value-file", str(mended)])
        assert result.exit_code == 0, result.output

        send(settings, end)
        until("all estimates", lambda: workers.check() and set(stored(settings)) >= wanted, 60)
    found = stored(settings)
    assert set(found) == wanted | {(STATION, (NOON + 120_000) // 1000)}
    assert found["st-1", (NOON + 60_000) // 1000].pollutants["pm10"].sensors.count("second") == 1
    counted = found[STATION, (NOON + 120_000) // 1000].pollutants["no2"]
    assert counted.kind == "measured"


def test_a_station_with_only_bad_frames_gets_no_window_from_them(
    kafka_settings: Callable[..., Settings], tmp_path: Path
) -> None:
    settings = kafka_settings(partitions=1, window=REPLAY)
    records = [
        *punctuations(NOON, 1),
        frame("a", NOON + 1000, b"nothing"),
        reading("b", NOON + 1000, {"pm25": 12.0}),
        *punctuations(NOON + 3_600_000, 1),
    ]
    with fleet(settings, tmp_path) as workers:
        send(settings, records)
        until("the other station's estimate", lambda: workers.check() and stored(settings), 60)
    assert set(stored(settings)) == {("b", (NOON + 60_000) // 1000)}


@pytest.mark.realdata
def test_the_real_failures_are_refused_or_not_used(
    kafka_settings: Callable[..., Settings], tmp_path: Path
) -> None:
    folder = Path(__file__).parents[2] / ".." / "shared" / "data" / "trafficcams" / "failures"
    if not folder.is_dir():
        pytest.skip("no ../shared/data")
    settings = kafka_settings(partitions=1, window=REPLAY)
    files = sorted(folder.iterdir())
    records = [
        *punctuations(NOON, 1),
        *(frame(f"cam-{i}", NOON + 1000, file.read_bytes()) for i, file in enumerate(files)),
        *(reading(f"cam-{i}", NOON + 2000, {"pm25": 12.0}) for i, _ in enumerate(files)),
        *punctuations(NOON + 3_600_000, 1),
    ]
    with fleet(settings, tmp_path) as workers:
        send(settings, records)
        until("an estimate each", lambda: workers.check() and len(stored(settings)) == len(files), 60)
        letters = read_all(settings, topics.DEAD_LETTERS)
    assert {letter.key for letter in letters} == {f"cam-{i}".encode() for i, _ in enumerate(files)}
    assert not any(letter.value and may_show(letter.value) for letter in letters), "no picture is copied"
    assert all(len(dict(letter.headers)["x-dlq-reason"]) > 20 for letter in letters)
    assert {estimate.sides for estimate in stored(settings).values()} == {"sensors"}
