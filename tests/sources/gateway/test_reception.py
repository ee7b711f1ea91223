"""What arrives becomes records, or a dead letter with its bytes; what is not confirmed was not taken."""

import asyncio
import io
import json
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from camera.image import Area
from schemas.base import EARLIEST_MS
from schemas.dead_letter import DeadLetter
from schemas.frame import MAX_FRAME_BYTES
from schemas.reading import READING_EXAMPLE, decode
from settings.sections import GatewaySettings
from sources.adapters import adapters
from sources.gateway.admission import Admission
from sources.gateway.answers import HttpAnswer
from sources.gateway.arrival import Arrival, Picture, Receipt
from sources.gateway.errors import KafkaAway, NotAllowed
from sources.gateway.key_scope import KeyScope
from sources.gateway.letters import arrival_again
from sources.gateway.retry import take_again
from sources.gateway.uplinks import Recent, uplink_of
from streams.metrics import REGISTRY
from streams.stage import Out
from streams.topics import DEAD_LETTERS, FRAMES, MAX_RECORD_BYTES, QUARANTINE, READINGS
from tests.sources.gateway.desk import NOW, Log, arrival, desk

GOLDEN = Path(__file__).parents[1] / "adapters" / "golden"
POST = '{"wifi":-54,"rco2":447,"pm01":3,"pm02":7,"pm10":8,"atmp":24.81,"rhum":40.3,"boot":6}'
PATH = "/sensors/airgradient:84fce602549c/measures"
UPLINK = (GOLDEN / "chirpstack" / "plain-names.json").read_bytes()


def test_a_payload_becomes_what_a_producer_would_send() -> None:
    reception, log = desk()
    receipt = asyncio.run(reception.take(arrival("airgradient", POST, topic=PATH)))
    [record] = log.readings
    assert record.key == b"airgradient-84fce602549c"
    assert json.loads(record.value or b"") == {
        "station": "airgradient-84fce602549c",
        "observed_at": NOW,
        "received_at": NOW,
        "time_source": "server",
        "values": [
            {"parameter": "pm25", "value": 7.0, "unit": "ug/m3", "channel": "atm"},
            {"parameter": "pm10", "value": 8.0, "unit": "ug/m3", "channel": "atm"},
            {"parameter": "temperature", "value": 24.81, "unit": "Cel"},
            {"parameter": "relativehumidity", "value": 40.3, "unit": "%"},
        ],
    }
    assert decode(record.value or b"") is not None  # the fast path, as of every producer
    assert (receipt.published, receipt.values, receipt.dead_letter) == (1, 4, None)
    assert (dict(record.headers)["x-gateway-raw"] or b"").startswith(b"sha256:")


def test_nothing_is_taken_while_the_broker_does_not_confirm() -> None:
    reception, log = desk()
    log.there = False
    uplink = arrival("chirpstack", UPLINK)
    with pytest.raises(KafkaAway):
        asyncio.run(reception.take(uplink))
    log.there = True
    assert not asyncio.run(reception.take(uplink)).duplicate  # it was not taken before
    assert len(log.readings) == 1


def test_what_cannot_be_translated_is_a_dead_letter_with_its_bytes_and_reason() -> None:
    reception, log = desk()
    receipt = asyncio.run(reception.take(arrival("airgradient", b"{pm02: 7", topic=PATH, station="roof")))
    [(story, value)] = log.letters
    assert value == b"{pm02: 7"
    assert (story.stage, story.code, story.partly_used) == ("gateway", receipt.refused[0].code, False)
    assert receipt.dead_letter == story.id
    assert story.id.startswith("gateway.airgradient/0/")
    headers = dict(log.records[0].headers)
    assert headers["x-gateway-received-at"] == str(NOW).encode()
    assert headers["x-gateway-station"] == b"roof"
    assert not log.readings


def test_good_values_beside_a_bad_one_are_used() -> None:
    reception, log = desk()
    body = READING_EXAMPLE.replace("]}", ', {"parameter": "pm10", "value": -999, "unit": "furlong"}]}')
    receipt = asyncio.run(reception.take(arrival("skyfuse-json", body)))
    [(story, _)] = log.letters
    assert story.partly_used
    assert receipt.published == 1
    assert len(log.readings) == 1


def test_a_letter_fits_into_a_record_and_what_was_cut_is_not_taken_for_all_of_it() -> None:
    reception, log = desk()
    body = b'{"station": "' + b"u" * (MAX_RECORD_BYTES + 1)
    receipt = asyncio.run(reception.take(arrival("skyfuse-json", body, way="file")))
    assert receipt.refused[0].code == "too_large"
    [letter] = log.on(DEAD_LETTERS.name)
    size = len(letter.value or b"") + sum(len(name) + len(raw or b"") for name, raw in letter.headers)
    assert size < MAX_RECORD_BYTES - 1024
    assert (letter.value or b"") == body[: len(letter.value or b"")]
    headers = {name: (raw or b"").decode() for name, raw in letter.headers if not name.startswith("x-dlq-")}
    assert headers["x-gateway-cut"] == str(len(body))
    with pytest.raises(ValueError, match="of which the first"):
        arrival_again(headers, letter.value or b"")


def test_two_letters_of_one_millisecond_have_different_ids() -> None:
    reception, log = desk()
    for body in (b"{1", b"{2"):
        asyncio.run(reception.take(arrival("airgradient", body)))
    assert len({story.id for story, _ in log.letters}) == 2


def test_an_unknown_part_is_told_once_for_each_adapter_and_place() -> None:
    reception, log = desk()
    body = POST.replace('"boot":6', '"boot":6,"flux":1')

    def take(text: str, adapter: str = "airgradient") -> Receipt:
        return asyncio.run(reception.take(arrival(adapter, text, topic=PATH, station="roof")))

    first, second = take(body), take(body.replace('"pm02":7', '"pm02":9'))
    assert (first.dead_letter is None, second.dead_letter is None) == (False, True)
    assert [part.code for part in second.refused] == ["unknown"]  # the sender is told all the same
    take(POST.replace('"boot":6', '"boot":6,"flax":1'))
    assert len(log.letters) == 2
    assert len(log.readings) == 3


def test_an_unknown_part_of_a_payload_that_was_not_confirmed_is_told_with_the_next() -> None:
    reception, log = desk()
    body = POST.replace('"boot":6', '"boot":6,"flux":1')
    log.there = False
    with pytest.raises(KafkaAway):
        asyncio.run(reception.take(arrival("airgradient", body, topic=PATH)))
    log.there = True
    asyncio.run(reception.take(arrival("airgradient", body, topic=PATH)))
    assert len(log.letters) == 1


def test_what_strangers_make_up_is_remembered_to_a_bound() -> None:
    reception, _ = desk()
    for number in range(300):
        members = ",".join(f'"x{number}_{part}":1' for part in range(60))
        asyncio.run(reception.take(arrival("airgradient", f"{{{members}}}", topic=PATH)))
    assert len(reception._reported) == 10_000


def test_a_key_of_one_station_cannot_write_another_s() -> None:
    reception, log = desk()
    mine = KeyScope(("my-*",), "my key")
    rows = "\n".join(
        f"{station},2026-08-21T09:59:00Z,pm25,{value},ug/m3"
        for station, value in (("my-a", 1), ("your-a", 2))
    )
    body = f"station,time,parameter,value,unit\n{rows}\n"
    receipt = asyncio.run(reception.take(arrival("skyfuse-csv", body, scope=mine)))
    assert [record.key for record in log.readings] == [b"my-a"]
    assert [part.code for part in receipt.refused] == ["not_yours"]
    assert "my key" in receipt.refused[0].why
    assert "your-a" in receipt.refused[0].why


@given(st.text("ab.*-", max_size=6), st.text("ab.-", min_size=1, max_size=6))
def test_a_scope_covers_its_ids_and_beginnings_and_nothing_else(pattern: str, station: str) -> None:
    if "*" in pattern[:-1]:
        return
    expected = station.startswith(pattern[:-1]) if pattern.endswith("*") else station == pattern
    assert KeyScope((pattern,)).covers(station) is expected
    assert not KeyScope(()).covers(station)


def test_the_only_station_of_a_key_is_that_of_its_payloads() -> None:
    reception, log = desk()
    asyncio.run(reception.take(arrival("airgradient", POST, scope=KeyScope(("roof",)))))
    assert [record.key for record in log.readings] == [b"roof"]


def test_a_network_server_s_second_copy_is_left_out() -> None:
    reception, log = desk()
    first, second = (asyncio.run(reception.take(arrival("chirpstack", UPLINK))) for _ in range(2))
    assert (first.duplicate, second.duplicate) == (False, True)
    assert len(log.readings) == 1


def uplink(**more: object) -> bytes:
    said = {"session_key_id": "AYf", "f_cnt": 7, "frm_payload": "AQ==", "decoded_payload": {"pm25": 3}} | more
    return json.dumps({"end_device_ids": {"dev_eui": "70B3"}, "uplink_message": said}).encode()


def test_uplinks_are_told_apart_by_device_session_counter_and_frame() -> None:
    changes: list[dict[str, object]] = [
        {}, {"session_key_id": "AYg"}, {"f_cnt": 8}, {"f_cnt": None}, {"frm_payload": "Ag=="},
    ]  # fmt: skip
    names = [uplink_of("the-things-stack", uplink(**change)) for change in changes]
    assert len(set(names)) == len(names)
    assert uplink_of("the-things-stack", uplink()) == uplink_of("the-things-stack", uplink(rssi=-80))
    assert uplink_of("airgradient", uplink()) is None
    assert uplink_of("the-things-stack", b"[" * 100_000) is None
    # A device without time that says the same twice measured the same twice.
    assert uplink_of("airgradient", POST.encode()) is None


def test_what_was_seen_of_late_is_bounded_in_number_and_age() -> None:
    recent = Recent(most=3, for_ms=100)
    for number in range(5):
        recent.note(str(number), number)
    assert [str(number) in recent for number in range(5)] == [False, False, True, True, True]
    recent.note("late", 200)
    assert "4" not in recent
    assert "late" in recent


def test_a_reading_may_go_elsewhere_and_listeners_hear_of_all() -> None:
    heard: list[object] = []

    class Ear:
        def taken(self, _: Arrival, receipt: Receipt) -> None:
            heard.append(receipt)

        def picture_taken(self, _: Picture, receipt: Receipt) -> None:
            raise AssertionError(receipt)

        def link_changed(self, *link: object) -> None:
            heard.append(link)

    reception, log = desk(Admission((), "roof".__eq__, lambda: True), [Ear()])
    receipt = asyncio.run(reception.take(arrival("airgradient", POST, topic=PATH)))
    reception.link_changed("roof", False, NOW, "mqtt")
    reception.link_changed("stranger", False, NOW, "mqtt")  # waits, and nobody hears of it
    assert heard == [receipt, ("roof", False, NOW, "mqtt")]
    assert [record.topic for record in log.records] == [QUARANTINE.name]


@given(st.sampled_from(sorted(adapters())), st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_no_payload_raises_and_each_is_used_or_told(adapter: str, body: bytes) -> None:
    reception, log = desk()
    receipt = asyncio.run(reception.take(arrival(adapter, body)))
    assert receipt.published or receipt.refused or receipt.left_out or receipt.facts
    assert (receipt.dead_letter is not None) == bool(log.letters)


def jpeg(width: int, height: int, **save: Any) -> bytes:
    across = np.linspace(0, 255, width, dtype=np.uint8)
    pixels = np.broadcast_to(across[None, :, None], (height, width, 3))
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", **save)
    return file.getvalue()


def picture(data: bytes, **more: object) -> Picture:
    fields = {"station": "roof", "taken_at": NOW - 500, "data": data, "received_at": NOW, "way": "http"}
    return Picture(**fields | more)  # type: ignore[arg-type]


def test_a_refused_picture_is_counted_among_the_dead_letters() -> None:
    def counted() -> float:
        return REGISTRY.get_sample_value("aq_dlq_total", {"stage": "gateway", "reason": "not_an_image"}) or 0

    reception, log = desk()
    before = counted()
    receipt = asyncio.run(reception.take_picture(picture(b"<html>")))
    assert [one.code for one in receipt.refused] == ["not_an_image"]
    assert counted() == before + len(log.letters) == before + 1


def test_a_large_picture_is_cut_and_scaled_before_it_enters_kafka() -> None:
    reception, log = desk(longest_side=640)
    data = jpeg(2400, 1200)
    asyncio.run(reception.take_picture(picture(data)))
    asyncio.run(reception.take_picture(picture(data, crop=Area(0.5, 0.0, 1.0, 0.5))))
    whole, part = (Image.open(io.BytesIO(record.value or b"")) for record in log.frames)
    assert whole.size == (640, 320)
    assert part.size == (640, 320)
    assert np.asarray(part)[:, 0].mean() > 120  # the right half of a gradient
    assert np.asarray(whole)[:, 0].mean() < 10
    headers = dict(log.frames[0].headers)
    assert headers["ce_id"] == f"roof-main-{NOW - 500}".encode()
    assert headers["ce_time"] == b"2026-08-21T09:59:59.500Z"


def test_a_camera_s_original_may_be_larger_than_a_frame() -> None:
    noise = np.random.default_rng(1).integers(0, 255, (1800, 2400, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "JPEG", quality=95)
    assert len(file.getvalue()) > MAX_FRAME_BYTES
    reception, log = desk(longest_side=640)
    asyncio.run(reception.take_picture(picture(file.getvalue())))
    assert len(log.frames[0].value or b"") < MAX_FRAME_BYTES / 4
    originals, log = desk(keep_originals=True)
    asyncio.run(originals.take_picture(picture(file.getvalue())))
    assert log.letters[0][0].code == "too_many_bytes"


def test_a_small_picture_is_kept_but_for_its_metadata() -> None:
    exif = Image.Exif()
    exif[0x010E] = "where I live"
    data = jpeg(320, 240, exif=exif)
    reception, log = desk()
    asyncio.run(reception.take_picture(picture(data)))
    kept = log.frames[0].value or b""
    assert b"where I live" in data
    assert b"where I live" not in kept
    with Image.open(io.BytesIO(kept)) as one, Image.open(io.BytesIO(data)) as other:
        assert np.array_equal(np.asarray(one), np.asarray(other))
    originals, log = desk(keep_originals=True)
    asyncio.run(originals.take_picture(picture(data)))
    assert log.frames[0].value == data


def test_a_picture_is_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # its first row is the right edge
    reception, log = desk()
    asyncio.run(reception.take_picture(picture(jpeg(320, 240, exif=exif))))
    with Image.open(io.BytesIO(log.frames[0].value or b"")) as kept:
        assert kept.size == (240, 320)


def test_what_is_no_picture_is_a_dead_letter() -> None:
    reception, log = desk()
    receipt = asyncio.run(reception.take_picture(picture(b"<html>offline</html>")))
    [(story, value)] = log.letters
    assert (story.code, value) == ("not_an_image", b"<html>offline</html>")
    assert receipt.dead_letter == story.id
    asyncio.run(reception.take_picture(picture(jpeg(320, 240), taken_at=3)))
    assert log.letters[1][0].code == "time_out_of_range"


def test_no_letter_has_a_picture_in_it() -> None:
    """They are kept for a month, pictures for hours: what may show anything is left out, by whatever way."""
    reception, log = desk()
    heic = b"\0\0\0\x18ftypheic" + bytes(range(256))
    for body in (jpeg(320, 240)[:200], heic, b"aGVsbG8=" * 400):
        asyncio.run(reception.take_picture(picture(body)))
    asyncio.run(reception.take(arrival("airgradient", jpeg(320, 240))))
    assert [value for _, value in log.letters] == [None] * 4
    assert all(story.reason for story, _ in log.letters)
    assert len({story.id for story, _ in log.letters}) == 4
    again = log.on(DEAD_LETTERS.name)[0].headers
    assert ("x-gateway-camera", b"main") in again  # it can be sent again, with a picture


def test_a_picture_of_somebody_else_s_station_is_not_taken() -> None:
    reception, log = desk()
    with pytest.raises(NotAllowed, match="yard"):
        asyncio.run(
            reception.take_picture(picture(jpeg(320, 240), scope=KeyScope(("roof",)), station="yard"))
        )
    assert not log.records


def again(log: Log, body: bytes | None = None) -> list[Out]:
    [letter] = log.on(DEAD_LETTERS.name)
    headers = {name: (raw or b"").decode() for name, raw in letter.headers if not name.startswith("x-dlq-")}
    data = letter.value if body is None else body
    return asyncio.run(take_again(headers, data or b"", GatewaySettings(), "p."))


def test_a_dead_letter_can_be_tried_again_as_it_came_or_mended() -> None:
    reception, log = desk()
    asyncio.run(
        reception.take(
            arrival(
                "tasmota",
                '{"Time":"2026-08-21T11:59:30","SDS0X1":{"PM2.5":7}}',
                topic="tele/roof/SENSOR",
                scope=KeyScope(("roof",)),
                way="mqtt",
            )
        )
    )
    [same] = again(log)
    assert same.topic == "p." + DEAD_LETTERS.name  # still without a zone: the same letter
    assert DeadLetter.from_headers(same.headers).id == log.letters[0][0].id
    [mended] = again(log, b'{"Time":"2026-08-21T09:59:30Z","SDS0X1":{"PM2.5":7}}')
    assert (mended.topic, mended.key) == ("p." + READINGS.name, b"roof")
    assert json.loads(mended.value or b"")["received_at"] == NOW


def test_a_picture_can_be_tried_again() -> None:
    reception, log = desk()
    asyncio.run(reception.take_picture(picture(b"offline", camera="south")))
    [frame] = again(log, jpeg(320, 240))
    headers = dict(frame.headers)
    assert (frame.topic, headers["ce_camera"]) == ("p." + FRAMES.name, b"south")
    assert headers["ce_time"] == b"2026-08-21T09:59:59.500Z"


def test_a_sender_says_nothing_of_the_devices_of_others() -> None:
    """Neither what they measure nor that their batteries are low."""
    reception, _ = desk()
    uplink = arrival("chirpstack", UPLINK)
    mine = asyncio.run(reception.take(uplink))
    assert mine.facts
    strange, _ = desk()
    others = asyncio.run(
        strange.take(arrival("chirpstack", UPLINK, scope=KeyScope(("somebody", "else"), "a key")))
    )
    assert (others.published, others.facts) == (0, ())


def test_what_is_unknown_is_told_once_wherever_in_a_list_it_stands() -> None:
    reception, log = desk()
    for place in (0, 2, 1):
        message = json.loads(READING_EXAMPLE)
        message["values"] = [{**message["values"][0], "channel": f"c{number}"} for number in range(3)]
        message["values"][place]["colour"] = "red"
        receipt = asyncio.run(reception.take(arrival("skyfuse-json", json.dumps(message))))
        assert [(part.code, part.where) for part in receipt.refused] == [
            ("unknown", f"values[{place}].colour")
        ]
    assert len(log.letters) == 1


MESSAGE = (
    '{"station": "roof", "observed_at": "%s", "values": [{"parameter": "pm25", "value": 9, "unit": "ug/m3"}]}'
)
ROWS = "station,time,parameter,value,unit\nroof,%s,pm25,9,ug/m3\n"
LINE = "air,station=roof pm25=9 %s"


@pytest.mark.parametrize(
    ("stated", "code"),
    [
        ("1970-01-01T00:00:12Z", "clock_reset"),
        ("2000-01-05T14:59:30Z", "clock_reset"),
        ("2010-01-01T00:10:00Z", "clock_reset"),
        ("2007-01-05T10:00:00Z", "gps_rollover"),
        ("2026-08-21T10:05:01Z", "future_time"),
        ("2226-08-21T10:00:00Z", "future_time"),
    ],
)
def test_what_a_clock_cannot_say_is_answered_as_refused_whatever_it_came_as(stated: str, code: str) -> None:
    number = round(datetime.fromisoformat(stated).timestamp() * 1e9)
    for adapter, body in (
        ("skyfuse-json", MESSAGE % stated),
        ("skyfuse-csv", ROWS % stated),
        ("influx-line", LINE % (number if number > 1e17 else 12)),
    ):
        reception, log = desk()
        receipt = asyncio.run(reception.take(arrival(adapter, body)))
        assert (receipt.published, receipt.refused[0].code) == (0, code)
        [(story, value)] = log.letters
        assert (story.code, value) == (code, body.encode())
        assert [(one.station, one.code) for one in receipt.wrong_clocks] == [("roof", code)]
        assert log.records[0].key == b"roof"
        assert HttpAnswer.taken(receipt).status == 422
    at = round(number / 1e6)
    if at >= EARLIEST_MS:
        reception, log = desk()
        receipt = asyncio.run(reception.take_picture(picture(jpeg(32, 24), taken_at=at)))
        assert (receipt.published, receipt.refused[0].code) == (0, code)


def test_of_a_backlog_only_what_a_clock_cannot_say_is_refused() -> None:
    reception, log = desk()
    body = "\n".join(MESSAGE % at for at in ("2000-01-01T00:00:40Z", "2026-08-20T10:00:00Z"))
    receipt = asyncio.run(reception.take(arrival("skyfuse-json", body)))
    assert (receipt.published, receipt.refused[0].code) == (1, "clock_reset")
    assert log.letters[0][0].partly_used
    # Nobody hears of the clock of a station that the sender may not speak for.
    mine = KeyScope(("yard",))
    receipt = asyncio.run(reception.take(arrival("skyfuse-json", body, scope=mine)))
    assert receipt.wrong_clocks == ()


def test_the_same_that_cannot_be_used_is_one_letter_of_each_sender() -> None:
    reception, log = desk()

    def take(body: str, station: str = "roof") -> str | None:
        return asyncio.run(reception.take(arrival("skyfuse-json", body, station=station))).dead_letter

    first = take("{1")
    assert first is not None
    assert take("{1") == first
    assert len(log.letters) == 1
    assert take("{1", "hill") != take("{2") != first
    assert len(log.letters) == 3


def test_a_body_that_was_not_confirmed_has_no_letter_yet() -> None:
    reception, log = desk()
    log.there = False
    with pytest.raises(KafkaAway):
        asyncio.run(reception.take(arrival("skyfuse-json", "{1")))
    log.there = True
    asyncio.run(reception.take(arrival("skyfuse-json", "{1")))
    assert len(log.letters) == 1


@pytest.mark.parametrize(("adapter", "topic", "body"), [
    ("airgradient", "airgradient/readings/84fce602549c", '{"serialno": "%s", "pm02": 7}'),
    ("chirpstack", "application/1/device/84fce602549c/event/up",
     '{"time": "2026-08-21T10:00:00Z", "deviceInfo": {"devEui": "%s"}, "object": {"pm2_5": 5}}'),
    ("the-things-stack", "v3/app@t/devices/84fce602549c/up",
     '{"end_device_ids": {"device_id": "%s"}, "received_at": "2026-08-21T10:00:00Z",'
     ' "uplink_message": {"decoded_payload": {"pm2_5": 5}}}'),
    ("sensorthings", "v1.1/Datastreams(84fce602549c)/Observations",
     '{"phenomenonTime": "2026-08-21T10:00:00Z", "result": 5, "Datastream": {"@iot.id": "%s", "name": "pm25",'
     ' "unitOfMeasurement": {"symbol": "ug/m3"}, "Thing": {"name": "roof"}}}'),
    ("smart-citizen", "device/sck/84fce602549c/readings",
     '{"id": "%s", "data": [{"recorded_at": "2026-08-21T10:00:00Z", "sensors": [{"id": 87, "value": 5}]}]}'),
])  # fmt: skip
def test_a_topic_that_names_a_device_speaks_for_it_alone(adapter: str, topic: str, body: str) -> None:
    reception, log = desk()

    def take(who: str) -> Receipt:
        sent = arrival(adapter, body % who, topic=topic, receiver="broker", way="mqtt")
        return asyncio.run(reception.take(sent))

    assert take("84FCE602549C").published == 1
    other = take("aaaaaaaaaaaa")
    assert (other.published, other.refused[0].code) == (0, "not_yours")
    assert len(log.readings) == 1


@pytest.mark.parametrize(("adapter", "body"), [
    ("sensorthings",
     '{"phenomenonTime": "2026-08-21T09:15:00Z/2026-08-21T09:00:00Z", "result": 5,'
     ' "Datastream": {"name": "pm25", "unitOfMeasurement": {"symbol": "ug/m3"}, "Thing": {"name": "roof"}}}'),
    ("cpcb", "From Date,To Date,PM2.5 (ug/m3)\n21-08-2026 12:00,21-08-2026 11:00,3\n"),
    ("eea", "Samplingpoint,Pollutant,Start,End,Value,Unit,AggType,Validity\n"
     "S,PM2.5,2026-08-21 08:00:00,2026-08-21 07:00:00,3,ug.m-3,hour,1\n"),
])  # fmt: skip
def test_a_mean_that_ends_before_it_begins_is_no_value_of_a_moment(adapter: str, body: str) -> None:
    reception, log = desk()
    receipt = asyncio.run(reception.take(arrival(adapter, body, station="roof")))
    assert log.readings == []
    assert "ends_before_it_begins" in {part.code for part in receipt.refused}


def test_a_number_of_any_length_spoils_itself_alone() -> None:
    reception, _ = desk()
    value = '{"parameter": "%s", "value": %s, "unit": "ug/m3"}'
    values = f"{value % ('pm25', '9' * 5_000)}, {value % ('pm10', 5)}"
    body = f'{{"station": "roof", "observed_at": "2026-08-21T09:59:00Z", "values": [{values}]}}'
    receipt = asyncio.run(reception.take(arrival("skyfuse-json", body)))
    assert (receipt.published, receipt.values) == (1, 1)
    assert [part.where for part in receipt.left_out] == ["values[0].value (pm25)"]


def test_a_row_of_long_ago_is_remarked_whichever_way_it_is_read() -> None:
    reception, _ = desk()
    body = READING_EXAMPLE
    found = json.loads(body)
    found["observed_at"] = "2026-08-20T10:00:00Z"
    for text in (json.dumps(found), json.dumps(found).replace("roof", "r\\u006fof")):
        receipt = asyncio.run(reception.take(arrival("skyfuse-json", text)))
        assert [remark.code for remark in receipt.remarks] == ["backlog"], text
