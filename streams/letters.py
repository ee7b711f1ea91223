"""The dead letters of one poll: one for each record of which anything was refused."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

from schemas.errors import Refused
from settings.names import TopicNames
from streams import metrics
from streams.accept import dead_letter
from streams.boundary import guarded
from streams.stage import KafkaRecord, Out
from streams.topics import DEAD_LETTERS

T = TypeVar("T")


class _Letter(NamedTuple):
    record: KafkaRecord
    refused: Refused
    used: bool
    more: int


class Letters:
    """Collects refusals by record: however many of its values are wrong, a record is one dead letter."""

    def __init__(self, names: TopicNames, stage: str) -> None:
        self._topic = names.of(DEAD_LETTERS)
        self._stage = stage
        self._letters: dict[tuple[str, int, int], _Letter] = {}

    def add(self, record: KafkaRecord, refused: Refused, used: bool = False) -> None:
        """Refuse a record. `used`: the rest of it is used.

        The first reason stands; a later one is counted, and may leave nothing to be used.
        """
        place = record.topic, record.partition, record.offset
        known = self._letters.get(place)
        if known is None:
            self._letters[place] = _Letter(record, refused, used, 0)
        else:
            self._letters[place] = known._replace(used=known.used and used, more=known.more + 1)

    def read(self, record: KafkaRecord, work: Callable[[], T]) -> T | None:
        """What `work` makes of a record; None where it is refused, whatever it raised."""
        made = guarded(work)
        if isinstance(made, Refused):
            self.add(record, made)
            return None
        return made

    def __len__(self) -> int:
        return len(self._letters)

    def out(self) -> list[Out]:
        """The dead letters to put out, in the order in which their records were refused first."""
        letters = []
        for record, refused, used, more in self._letters.values():
            words = f"{refused.message} (and {more} more)" if more else refused.message
            said = Refused(refused.code, words)
            letters.append(dead_letter(self._topic, self._stage, record, said, partly_used=used))
            metrics.DEAD_LETTERS.labels(self._stage, refused.code).inc()
        return letters

    def count(self, records: Sequence[KafkaRecord], punctuations: int = 0) -> None:
        """Add a poll of one topic to the metrics: each of its records once."""
        topic = records[0].topic
        mine = [letter for letter in self._letters.values() if letter.record.topic == topic]
        refused = sum(not letter.used for letter in mine)
        results = {
            "refused": refused,
            "partly_used": len(mine) - refused,
            "punctuation": punctuations,
            "used": len(records) - punctuations - len(mine),
        }
        for result, number in results.items():
            metrics.MESSAGES.labels(topic, result).inc(number)
