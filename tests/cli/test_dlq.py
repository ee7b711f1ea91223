"""`skyfuse dlq` on a real broker: exact bytes out, and back to where they came from."""

import asyncio
import gc
import hashlib
import re

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from typer.testing import CliRunner

from cli import dlq
from cli.dlq import app, preview
from cli.errors import DeadLetterError
from cli.shared.connection import kafka_connection
from infra.errors import BrokerError
from infra.stack.broker import running_bootstrap
from schemas.base import from_ms
from schemas.dead_letter import REDRIVEN_FROM, DeadLetter
from settings.sections import KafkaSettings, Settings
from sources.gateway.arrival import Arrival
from sources.gateway.reception import Reception
from streams.admin import create_topics
from streams.errors import TopicReadError
from streams.topics import DEAD_LETTERS, FRAMES, READINGS
from tests.samples import T0

BINARY = bytes(range(256)) * 8


def story(settings, topic, offset, code="not_json", **more):
    return DeadLetter(
        stage="fusion", code=code, reason=f"reason of {offset} [not markup]", offset=offset, partition=1,
        topic=settings.kafka.prefix + topic.name, failed_at=from_ms(T0 * 1000), **more,
    )  # fmt: skip


@pytest.fixture
def letters(kafka_settings, monkeypatch):
    """Three dead letters, one of them refused twice, and one record that is none of ours."""
    settings = kafka_settings()
    create_topics(settings)
    monkeypatch.setenv("SKYFUSE_KAFKA__BOOTSTRAP", settings.kafka.bootstrap)
    monkeypatch.setenv("SKYFUSE_KAFKA__PREFIX", settings.kafka.prefix)
    monkeypatch.setenv("SKYFUSE_CONFIG", "")
    producer = KafkaProducer(**kafka_connection(settings))
    topic = settings.kafka.prefix + DEAD_LETTERS.name
    for one, key, value, headers in (
        (story(settings, READINGS, 7), b"milan", b'{"station": "milan"', [("traceparent", b"00-1")]),
        (story(settings, FRAMES, 8, "not_an_image"), b"milan", BINARY, [("ce_id", b"f1"), ("ce_time", b"x")]),
        (story(settings, READINGS, 9, partly_used=True), None, b"{}", []),
        (story(settings, READINGS, 7), b"milan", b'{"station": "milan"', [("traceparent", b"00-1")]),
    ):
        producer.send(topic, key=key, value=value, headers=[*headers, *one.to_headers()]).get(30)
    producer.send(topic, value=b"alien").get(30)
    producer.close()
    return settings


def run(*arguments, columns="250"):
    result = CliRunner(env={"COLUMNS": columns}).invoke(app, arguments)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def returned(settings, topic):
    """Records now on `topic`, with the partition each lies on."""
    consumer = KafkaConsumer(**kafka_connection(settings), enable_auto_commit=False, group_id=None)
    name = settings.kafka.prefix + topic.name
    partitions = [TopicPartition(name, number) for number in consumer.partitions_for_topic(name)]
    consumer.assign(partitions)
    consumer.seek_to_beginning()
    ends = consumer.end_offsets(partitions)
    found = []
    while any(consumer.position(p) < ends[p] for p in partitions):
        found += [record for records in consumer.poll(500).values() for record in records]
    consumer.close()
    return found


@pytest.mark.broker
def test_list_show_and_redrive(letters, tmp_path):
    prefix = letters.kafka.prefix
    ids = {n: f"{prefix}{t.name}/1/{n}" for n, t in ((7, READINGS), (8, FRAMES), (9, READINGS))}

    listed = run("list").output
    assert "3 dead letters" in listed
    assert "sent back" not in listed
    assert all(id in listed for id in ids.values())
    assert "[not markup]" in listed
    assert "not a dead letter of skyfuse" in listed
    assert "1 dead letter" in run("list", "--code", "not_an_image").output
    newest = run("list", "--last", "1").output
    assert "3 dead letters, the newest 1 are shown" in newest
    assert sum(id in newest for id in ids.values()) == 1

    shown = run("show", ids[7])
    assert '{"station": "milan"' in shown.output
    assert "traceparent: 00-1" in shown.output
    assert "x-dlq" not in shown.output
    raw = tmp_path / "frame.bin"
    assert "00000000  00 01 02" in run("show", ids[8], "--raw", str(raw)).output
    assert raw.read_bytes() == BINARY
    assert "the good values of this message were used" in run("show", ids[9]).output

    mended = tmp_path / "mended.json"
    mended.write_bytes(b'{"station": "milan", "mended": true}')
    run("redrive", ids[7], "--value-file", str(mended))
    run("redrive", ids[8], ids[9], "--set-header", "ce_time=2026-01-01T00:00:00Z")
    (reading, keyless) = sorted(returned(letters, READINGS), key=lambda record: record.key is None)
    assert (reading.key, reading.value) == (b"milan", mended.read_bytes())
    assert dict(reading.headers) == {"traceparent": b"00-1", REDRIVEN_FROM: ids[7].encode()}
    assert (keyless.value, keyless.partition) == (b"{}", 1)
    (frame,) = returned(letters, FRAMES)
    assert hashlib.sha256(frame.value).digest() == hashlib.sha256(BINARY).digest()
    assert dict(frame.headers)["ce_time"] == b"2026-01-01T00:00:00Z"
    # The key decides the partition as for any other record of that station.
    assert frame.partition == reading.partition

    with pytest.raises(DeadLetterError, match="no dead letter x/1/2"):
        run("show", "x/1/2")

    # What was sent back says so, also where a worker refused its original once more afterwards.
    with KafkaProducer(**kafka_connection(letters)) as producer:
        again = story(letters, READINGS, 7).to_headers()
        producer.send(prefix + DEAD_LETTERS.name, key=b"milan", value=b"{", headers=again).get(30)
    listed = run("list", columns="40").output
    assert "3 dead letters" in listed
    assert len(re.findall(r"  sent back 20\d\d-", listed)) == 3
    assert all(id in listed for id in ids.values()), "an id is never cut"
    shown = run("show", ids[7]).output
    assert "sent back at 20" in shown
    assert "x-dlq" not in shown
    assert "sent back" not in run("list", "--code", "nothing").output


@pytest.mark.broker
def test_a_letter_of_a_picture_is_shown_and_sent_back_for_as_long_as_frames_are_kept(letters, tmp_path):
    headers = [("ce_id", b"f9"), ("ce_time", b"x")]
    with KafkaProducer(**kafka_connection(letters)) as producer:
        name = letters.kafka.prefix + FRAMES.name
        at = producer.send(name, key=b"milan", value=BINARY, headers=headers).get(30)
        other = producer.send(name, key=b"milan", value=b"another").get(30)
        ids = {}
        for what, offset, own in (
            ("there", at.offset, headers),
            ("gone", at.offset + 9, headers),
            ("anew", other.offset, [("ce_id", b"f0")]),  # the topic was made anew: another one stands there
        ):
            told = story(letters, FRAMES, offset, "corrupt").model_copy(update={"partition": at.partition})
            ids[what] = told.id
            producer.send(
                letters.kafka.prefix + DEAD_LETTERS.name, key=b"milan", value=None,
                headers=[*own, *told.to_headers()],
            ).get(30)  # fmt: skip
    raw = tmp_path / "frame.bin"
    assert "00000000  00 01 02" in run("show", ids["there"], "--raw", str(raw)).output
    assert raw.read_bytes() == BINARY
    run("redrive", ids["there"])
    back = [one for one in returned(letters, FRAMES) if REDRIVEN_FROM in dict(one.headers)]
    assert [(one.key, one.value, dict(one.headers)["ce_id"]) for one in back] == [(b"milan", BINARY, b"f9")]
    [marked] = [
        one
        for one in returned(letters, DEAD_LETTERS)
        if dict(one.headers).get("x-dlq-redriven-at") and dict(one.headers)["ce_id"] == b"f9"
    ]
    assert marked.value is None, "no copy outlives it"
    for what in ("gone", "anew"):
        assert "its picture is gone (frames are kept for 6 h)" in run("show", ids[what]).output
        with pytest.raises(DeadLetterError, match="its picture is gone"):
            run("redrive", ids[what])
    run("redrive", ids["gone"], "--value-file", str(raw))
    back = [one for one in returned(letters, FRAMES) if REDRIVEN_FROM in dict(one.headers)]
    assert [one.value for one in back] == [BINARY, BINARY]


@pytest.mark.broker
# kafka-python, closed while a connection of its own is being made (on a busy machine), leaves its socket to
# the collector, which complains; it is collected here, so that no other test is blamed for it.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_missing_topic_is_named(kafka_settings):
    settings = kafka_settings()
    with pytest.raises(TopicReadError, match="skyfuse topics"):
        list(dlq.scan(kafka_connection(settings), settings.kafka.prefix + DEAD_LETTERS.name))
    gc.collect()


@pytest.mark.broker
def test_what_the_last_run_left_is_read_with_a_broker_of_the_command_s_own(restartable_broker, monkeypatch):
    kafka = KafkaSettings(bootstrap=restartable_broker.bootstrap, partitions=2)
    settings = Settings(data_dir=restartable_broker.data_dir.parent, kafka=kafka)
    create_topics(settings)
    with KafkaProducer(**kafka_connection(settings)) as producer:
        letter = story(settings, READINGS, 7)
        producer.send(DEAD_LETTERS.name, key=b"milan", value=b"{", headers=letter.to_headers()).get(30)
    restartable_broker.stop()
    monkeypatch.setenv("SKYFUSE_DATA_DIR", str(settings.data_dir))
    monkeypatch.setenv("SKYFUSE_CONFIG", "")
    listed = run("list")
    assert "aq.readings.v1/1/7" in listed.output
    assert "started for this command" in listed.output
    assert running_bootstrap(restartable_broker.data_dir) is None, "it ended with the command"


@pytest.mark.parametrize("arguments", [["list"], ["show", "x/1/2"]])
def test_a_folder_without_a_broker_s_data_gets_none(arguments, monkeypatch, tmp_path):
    monkeypatch.setenv("SKYFUSE_DATA_DIR", str(tmp_path / "mistyped"))
    monkeypatch.setenv("SKYFUSE_CONFIG", "")
    with pytest.raises(BrokerError, match="none runs in"):
        run(*arguments)
    assert not (tmp_path / "mistyped").exists()


def test_without_a_broker_one_is_told_so(tmp_path):
    with pytest.raises(BrokerError, match="skyfuse up"):
        kafka_connection(Settings(data_dir=tmp_path))


def test_a_mended_value_for_several_is_refused():
    result = CliRunner().invoke(app, ["redrive", "a/0/1", "a/0/2", "--value-file", "x"])
    assert result.exit_code == 2
    result = CliRunner().invoke(app, ["redrive", "a/0/1", "--set-header", "nonsense"])
    assert result.exit_code == 2


def test_previews():
    assert preview(b'{"a": 1}') == '{"a": 1}'
    assert preview("é".encode() * 1000).endswith("é ...")
    dump = preview(b"\xff\xd8\xff\xe0" + b"JFIF" * 200)
    assert dump.startswith("00000000  ff d8 ff e0 4a 46 49 46")
    assert re.search(r"\n\.\.\.$", dump)


@pytest.mark.broker
def test_what_a_gateway_could_not_translate_goes_through_its_adapter_again(letters, tmp_path):
    class Producer:
        async def publish(self, records):
            producer = KafkaProducer(**kafka_connection(letters))
            for one in records:
                producer.send(one.topic, one.value, one.key, list(one.headers)).get(30)
            producer.close()

    reception = Reception(Producer(), letters.gateway, letters.kafka.prefix)
    arrival = Arrival("airgradient", b"{pm02: 7}", T0 * 1000, "http", station="roof")
    receipt = asyncio.run(reception.take(arrival))
    with pytest.raises(DeadLetterError, match="still cannot be used"):
        run("redrive", receipt.dead_letter)
    mended = tmp_path / "mended.json"
    mended.write_bytes(b'{"pm02": 7}')
    told = run("redrive", receipt.dead_letter, "--value-file", str(mended)).output
    assert f"sent {receipt.dead_letter} through its adapter" in told
    [reading] = [one for one in returned(letters, READINGS) if one.key == b"roof"]
    assert receipt.dead_letter is not None
    assert dict(reading.headers)[REDRIVEN_FROM] == receipt.dead_letter.encode()
    assert b'"pm25"' in reading.value
