"""What lies on the topics of an installation, partition by partition, as backfill reads it."""

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Final, NamedTuple

from kafka import TopicPartition
from pydantic import ValidationError

from aqi.known_names import check_station
from backfill.annotations import read_annotations
from backfill.files import items_of, own_window_only, source_of_file
from backfill.healing import AmendmentsOnLog
from backfill.windows import Source
from fusion.sensors.declared import humidity_ms
from fusion.stored import OF_SENSORS, SENSORS, SensorsState
from schemas.annotation import Annotation
from schemas.errors import DamagedState, Refused
from schemas.estimate import BACKFILLED, Estimate
from settings.sections import KafkaSettings
from streams import topics
from streams.accept import LATE_FROM, Keys, amendment_of, is_amendment, is_punctuation, read_estimate
from streams.bands import BandBook
from streams.cadences import Cadences
from streams.checkpoint import AT
from streams.join import Item
from streams.standing import Periods
from streams.stations import StationBook
from streams.to_end import read_partitions

#: Where inputs on the late topic that came from files stand among those of the logs: after all of them.
_AFTER_THE_LOG: Final = 2**61


class LateRecord(NamedTuple):
    """A record of the late topic, where it lies (for people), and where it stood first.

    That is an offset of its source, or (`filed`) in a file.
    """

    record: Any
    where: str
    source: Source
    offset: int
    filed: bool


class LateInput(NamedTuple):
    """A late input, under the offset at which it stood first, and when it came (broker's time, ms)."""

    source: Source
    item: Item
    offset: int
    arrived: int


class TopicLogs:
    """The topics that `consumer` reads; `size`: of a window, ms. Partitions are read from their beginning."""

    def __init__(self, kafka: KafkaSettings, consumer: Any, size: int) -> None:
        self._prefix = kafka.prefix
        self._consumer = consumer
        self._size = size
        self.keys = Keys(kafka.partitions)
        #: By the name of its topic.
        self.sources: dict[str, Source] = {
            self.name(topics.FEATURES): "features", self.name(topics.READINGS): "readings",
        }  # fmt: skip
        self._books: dict[int, StationBook] = {}

    def book(self, number: int) -> StationBook:
        """The station records of a partition."""
        if number not in self._books:
            book = StationBook(self.name(topics.STATIONS), self.keys, check_station)
            # What is refused here was refused by the workers, with a dead letter.
            book.restore(self.scan(book.topic, number))
            self._books[number] = book
        return self._books[number]

    def bands(self, number: int) -> BandBook:
        """The far bands that were found for the cameras of a partition."""
        book = BandBook(self.name(topics.CAMERA_BANDS), self.keys)
        book.restore(self.scan(book.topic, number))
        return book

    def name(self, topic: topics.Topic) -> str:
        """The topic, as this installation calls it."""
        return self._prefix + topic.name

    def periods(self, number: int) -> Periods:
        """Periods that have heard nothing yet, for a log that is read from its beginning."""
        return Periods(self._size, Cadences(), self.book(number).get, humidity_ms)

    def amendments(self, number: int) -> dict[str, AmendmentsOnLog]:
        """Per station what amendments on the log say already."""
        found: dict[str, AmendmentsOnLog] = {}
        for record in self.scan(self.name(topics.READINGS), number):
            if is_amendment(record):
                try:
                    amendment = amendment_of(record, self.keys)
                except Refused:
                    continue  # by the worker too
                found.setdefault(amendment.station, AmendmentsOnLog()).add(amendment)
        return found

    def late_records(
        self, number: int, stations: Collection[str] | None, unusable: list[str]
    ) -> Iterator[LateRecord]:
        """The late topic; complaints go to `unusable`."""
        for record in self.scan(self.name(topics.LATE), number, stations):
            where = f"{record.topic}/{record.partition}/{record.offset}"
            raw = dict(record.headers).get(LATE_FROM, b"").decode(errors="replace")
            filed = source_of_file(raw)
            topic, _, rest = raw.partition("/")
            partition, _, offset = rest.partition("/")
            if filed is not None:
                yield LateRecord(record, where, filed, _AFTER_THE_LOG + record.offset, True)
            elif topic in self.sources and partition == str(number) and offset.isdigit():
                yield LateRecord(record, where, self.sources[topic], int(offset), False)
            else:
                unusable.append(f"{where}: {LATE_FROM} says {raw!r}, which is no input of this partition")

    def late_items(
        self,
        number: int,
        stations: Collection[str] | None,
        unusable: list[str],
        standing: Mapping[tuple[int, tuple[Any, ...]], Item],
    ) -> Iterator[LateInput]:
        """What is in the late topic.

        `standing`: those that stand for a period, or beside others, as the log has them.
        Complaints go to `unusable`.
        """
        periods = self.periods(number)
        for late in self.late_records(number, stations, unusable):
            try:
                items, _ = items_of(
                    late.source, late.record, self.keys, periods if late.filed else own_window_only()
                )
            except Refused as refused:
                unusable.append(f"{late.where}: {refused}")
                continue
            for item in items:
                known = standing.get((late.offset, item.identity), item)
                yield LateInput(
                    late.source, known._replace(offset=late.offset), late.offset, late.record.timestamp
                )

    def items(self, source: Source, record: Any, periods: Periods) -> list[Item]:
        """The inputs in a record, none where the worker used none."""
        if is_punctuation(record) or is_amendment(record):
            return []
        try:
            return items_of(source, record, self.keys, periods)[0]
        except Refused:
            return []  # as the worker did, which also wrote the dead letter

    def each_estimate(
        self, number: int, stations: Collection[str], take: Callable[[Estimate, bool], None]
    ) -> float:
        """Hand out the estimates of stations, and whether backfill made them; gives `complete_since`."""
        name = self.name(topics.ESTIMATES)
        complete_since = float("-inf") if self._begins(name, number) == 0 else float("inf")
        for record in self.scan(name, number):
            complete_since = min(complete_since, record.timestamp)
            if (record.key or b"").decode(errors="replace") not in stations:
                continue
            try:
                estimate = read_estimate(record, self.keys)
            except (ValidationError, Refused):
                continue  # the sinks refuse it too, with a dead letter: it is in no series
            take(estimate, BACKFILLED in dict(record.headers))
        return complete_since

    def checkpoints(self, number: int) -> dict[str, list[tuple[int, SensorsState]]]:
        """Per station the virtual sensors' snapshots. Raises NewerState."""
        newest = {record.key: record for record in self.scan(self.name(topics.STATE), number)}
        found: dict[str, list[tuple[int, SensorsState]]] = {}
        for key, record in newest.items():
            name, _, _ = key.decode().rpartition("#")
            if not name.endswith(OF_SENSORS) or record.value is None:
                continue
            try:
                state = SENSORS.decode(record.value)
            except DamagedState:
                continue  # the worker says so; values keep what they were published with
            station = name.removesuffix(OF_SENSORS)
            found.setdefault(station, []).append((int(dict(record.headers)[AT]), state))
        return found

    def _begins(self, topic: str, number: int) -> int:
        tp = TopicPartition(topic, number)
        return int(self._consumer.beginning_offsets([tp])[tp])

    def scan(self, topic: str, number: int, stations: Collection[str] | None = None) -> Iterator[Any]:
        """A partition's records from its beginning to where it ends now; of all stations or of these."""
        keys = None if stations is None else {station.encode() for station in stations}
        for record in read_partitions(self._consumer, [TopicPartition(topic, number)]):
            if keys is None or record.key in keys:
                yield record

    def annotations(self, number: int) -> list[Annotation]:
        """The newest of each annotation of a partition's stations."""
        name = self.name(topics.ANNOTATIONS)
        if name not in self._consumer.topics():  # an installation of before has none
            return []
        return read_annotations(self.scan(name, number), self.keys)
