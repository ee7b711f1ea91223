"""From Kafka records to what the stages work on; what cannot be used becomes a dead letter."""

from typing import Any, Final

from aiokafka.partitioner import murmur2
from pydantic import ValidationError

from schemas.amendment import AMENDMENT_TYPE, Amendment
from schemas.annotation import Annotation
from schemas.base import LATEST_MS, first_error, format_time, from_ms, to_ms
from schemas.dead_letter import DeadLetter
from schemas.errors import Refused
from schemas.estimate import Estimate, check_size
from schemas.features import Punctuation
from schemas.forecast import Forecast
from schemas.limits import MAX_AHEAD_MS
from schemas.reading import Observation, accept, decode
from schemas.weather import WeatherIssue
from streams.census import Census
from streams.join import Item
from streams.stage import KafkaRecord, Out
from streams.standing import Periods

MAX_READING_BYTES: Final = 1024 * 1024
#: Header of a record on aq.late.v1: topic/partition/offset where it stood first.
LATE_FROM: Final = "x-late-from"
#: Header of what a replay sent: the run, a blank, and which rows it was made of (datasets/places.py).
ORIGIN: Final = "x-origin"
PUNCTUATION_TYPE: Final = b"skyfuse.punctuation.v1"
MAX_PUNCTUATION_BYTES: Final = 4096
#: A replay closes its last windows by punctuations that lie ahead of its data, so by so much ahead of now.
MAX_CLOSING_MS: Final = 86_400_000
#: Characters of a reason.
_REASON: Final = 2_000
#: Keys whose partition is remembered.
_KEYS: Final = 100_000


def is_punctuation(record: KafkaRecord) -> bool:
    """Whether the record is progress without data."""
    return record.key is None and ("ce_type", PUNCTUATION_TYPE) in record.headers


def is_amendment(record: KafkaRecord) -> bool:
    """Whether the record is a change of the past."""
    return ("ce_type", AMENDMENT_TYPE) in record.headers


def amendment_of(record: KafkaRecord, keys: "Keys") -> Amendment:
    """The change of the past that a record carries. Raises Refused."""
    if len(record.value or b"") > MAX_READING_BYTES:
        raise Refused("too_large", f"an amendment of more than {MAX_READING_BYTES} bytes")
    try:
        amendment = Amendment.model_validate_json(record.value or b"")
    except ValidationError as error:
        raise Refused(*first_error(error)) from error
    keys.check(record, amendment.station)
    for hour in amendment.hours:
        # It waits for the hour to be over, and holds the offsets until then.
        check_time(to_ms(hour.end), record)
    return amendment


def dead_letter(
    topic: str, stage: Any, record: KafkaRecord, refused: Refused, partly_used: bool = False
) -> Out:
    """The record as it came, with the reason in its headers, for the dead-letter topic."""
    story = DeadLetter(
        stage=stage,
        code=refused.code,
        reason=_short(refused.message),
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        failed_at=from_ms(min(max(record.timestamp, 1_000_000_000_000), LATEST_MS)),
        partly_used=partly_used,
    )
    return Out(topic, record.key, record.value, [*record.headers, *story.to_headers()])


def _short(reason: str) -> str:
    """A reason that a header can hold: no longer than a person reads, and of letters that are any."""
    cut = reason if len(reason) <= _REASON else f"{reason[:_REASON]} …"
    return cut.encode(errors="backslashreplace").decode()


def punctuation_at(record: KafkaRecord) -> int | None:
    """How far event time has come by a punctuation, ms; None: it is only a sign of life. Raises Refused.

    One that lies more than a day ahead of the broker's clock would make everything still to come late.
    """
    if record.value is None or len(record.value) > MAX_PUNCTUATION_BYTES:
        raise Refused("not_a_punctuation", "a punctuation has a value of a few bytes: its kind and its time")
    at = Punctuation.model_validate_json(record.value).at
    if at is None:
        return None
    if 0 <= record.timestamp < to_ms(at) - MAX_CLOSING_MS:
        raise Refused(
            "future_time",
            f"a punctuation at {format_time(at)} is more than a day ahead of the broker's clock: no data is"
            " replayed from there",
        )
    return to_ms(at)


def read_estimate(record: KafkaRecord, keys: "Keys") -> Estimate:
    """The estimate that a record carries. Raises ValidationError, Refused.

    Its key has to be its station, on that key's partition: so it has come to those who keep the station's
    series and alerts. Others would make an hour of one window, and an alert beside the one that is open.
    What is stamped a day ahead of the broker's clock is none: it would end the present for whoever goes by
    the newest window.
    """
    estimate = Estimate.model_validate_json(record.value or b"")
    keys.check(record, estimate.station)
    check_size(estimate)
    if 0 <= record.timestamp < to_ms(estimate.window.end) - MAX_CLOSING_MS:
        raise Refused(
            "future_time",
            f"a window that ends at {format_time(estimate.window.end)} is more than a day ahead of the"
            " broker's clock: it cannot have been measured",
        )
    return estimate


def read_weather(record: KafkaRecord, keys: "Keys") -> WeatherIssue:
    """The weather that a record carries. Raises ValidationError, Refused.

    What is issued ahead of the broker's clock would be used by nobody until then.
    """
    if len(record.value or b"") > MAX_READING_BYTES:
        raise Refused("too_large", f"weather of more than {MAX_READING_BYTES} bytes")
    issue = WeatherIssue.model_validate_json(record.value or b"")
    keys.check(record, issue.station)
    check_time(to_ms(issue.issued_at), record)
    return issue


def read_forecast(record: KafkaRecord, keys: "Keys") -> Forecast:
    """The forecast that a record carries. Raises ValidationError, Refused."""
    forecast = Forecast.model_validate_json(record.value or b"")
    keys.check(record, forecast.station)
    return forecast


def read_annotation(record: KafkaRecord, keys: "Keys") -> Annotation:
    """The annotation in a record. Raises Refused."""
    try:
        found = Annotation.model_validate_json(record.value or b"")
    except ValidationError as error:
        raise Refused(*first_error(error)) from error
    check_key(record, found.id, "annotation")
    home = keys.partition(found.station)
    if home != record.partition:
        raise Refused(
            "wrong_partition",
            f"an annotation of station {found.station} belongs on partition {home}, the record lies on"
            f" {record.partition}: name the partition when you produce it (`skyfuse annotate` does)",
        )
    return found


def check_key(record: KafkaRecord, name: str, of: str) -> None:
    """Raises Refused where the record's key is not `name`, the id of what (`of`) the record names."""
    if record.key is None:
        raise Refused("no_key", f"the record has no key: produce it with the key {name!r}")
    if record.key != name.encode():
        key = record.key[:80].decode(errors="backslashreplace")
        raise Refused("key_mismatch", f"the key is {key!r} but the record names {of} {name!r}")


class Keys:
    """Checks that a record carries its station as key and lies where that key belongs."""

    def __init__(self, partitions: int) -> None:
        self._partitions = partitions
        self._known: dict[bytes, tuple[str, int]] = {}

    def partition(self, station: str) -> int:
        """Where the station's key belongs."""
        return int((murmur2(station.encode()) & 0x7FFFFFFF) % self._partitions)

    def check(self, record: KafkaRecord, station: str) -> None:
        """Refused where the key is missing, names another station, or was partitioned by another rule."""
        key = record.key
        if key is None:
            raise Refused("no_key", f"the record has no key: produce it with the key {station!r}")
        known = self._known.get(key)
        if known is None:
            try:
                name = key.decode()
            except UnicodeDecodeError as error:
                raise Refused(
                    "key_mismatch", f"the key {key[:64]!r} is not UTF-8: use the station id, {station!r}"
                ) from error
            known = name, self.partition(name)
            if name == station:
                if len(self._known) >= _KEYS:
                    self._known.clear()  # strangers may send any number; what is needed is soon known again
                self._known[key] = known
        if known[0] != station:
            raise Refused(
                "key_mismatch", f"the key is {known[0][:80]!r} but the record names station {station!r}"
            )
        if known[1] != record.partition:
            raise Refused(
                "wrong_partition",
                f"key {station!r} belongs on partition {known[1]}, the record lies on {record.partition}:"
                " set the producer's partitioner to murmur2 (librdkafka: partitioner=murmur2_random)",
            )


def check_time(time_ms: int, record: KafkaRecord) -> int:
    """The time the record may vouch for: its own, but never later than its arrival at the broker."""
    if record.timestamp < 0:
        raise Refused(
            "no_timestamp",
            "the broker gave the record no timestamp, so its own time cannot be checked: set"
            " message.timestamp.type=LogAppendTime on the topic (`skyfuse topics` tells what else)",
        )
    if time_ms > record.timestamp + MAX_AHEAD_MS:
        ahead = (time_ms - record.timestamp) / 1000
        raise Refused(
            "future_time",
            f"time {format_time(from_ms(time_ms))} is {ahead:.0f} s ahead of the broker's clock"
            f" ({format_time(from_ms(record.timestamp))}): set the station's clock",
        )
    return min(time_ms, record.timestamp)


def reading_items(
    record: KafkaRecord, keys: Keys, periods: Periods, census: Census | None = None
) -> tuple[list[Item], Refused | None]:
    """The join's items of a reading message, and what of it was refused while the rest is used.

    Raises Refused where nothing of the message can be used.
    """
    value = record.value
    if value is None:
        raise Refused("empty", "the record has no value")
    if len(value) > MAX_READING_BYTES:
        raise Refused(
            "too_large", f"a reading message of {len(value)} bytes; the limit is {MAX_READING_BYTES}"
        )
    refused = None
    observation = decode(value)
    if observation is None:
        reading, refused = accept(value)
        if reading is None:
            assert refused is not None
            raise refused
        observation = Observation.of(reading)
    station, time_ms, values = observation.station, observation.time_ms, observation.values
    keys.check(record, station)
    seen = check_time(time_ms, record)
    if census is not None:
        values, over = census.admit(station, seen, values)
        if over is not None and not values:
            raise over
        observation, refused = observation._replace(values=values), refused or over
    offset = record.offset
    return [
        Item(
            station,
            standing.time,
            seen,
            (v.sensor, v.parameter, v.channel, time_ms),
            (v.value, v.unit),
            v._replace(scalings=standing.scalings, twinned=standing.twinned) if standing.beside else v,
            offset,
            standing.since,
            standing.until,
            standing.period,
            standing.basis,
            standing.supersedes,
        )
        for v, standing in zip(values, periods.of(observation, record.timestamp, offset), strict=True)
    ], refused
