"""What became of the rows of a replay, as the topics tell it: which were late or refused, and why."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from datasets.places import Places, origin_places
from schemas.dead_letter import DeadLetter
from schemas.reading import accept
from streams.accept import ORIGIN
from streams.stage import KafkaRecord

#: Different reasons that are told one by one.
_MOST_REASONS: Final = 200
_ITEM: Final = re.compile(r"^values\.0(\.|: )")


class Refusal(NamedTuple):
    """One reason, in the words of the first row that had it, and all rows that had it."""

    reason: str
    rows: Places


@dataclass
class RowsOutcome:
    """Rows of one run (a row is one value, or one frame). Those in neither count were used."""

    late: Places = field(default_factory=Places)
    #: By code and file.
    refused: dict[tuple[str, str], Refusal] = field(default_factory=dict)
    #: Dead letters that no row is named by: estimates that a sink refused.
    others: int = 0
    _seen: set[tuple[str, str]] = field(default_factory=set)

    @property
    def refusals(self) -> int:
        """How many rows were refused."""
        return sum(refusal.rows.count for refusal in self.refused.values())

    def note_late(self, record: KafkaRecord, run: str) -> None:
        """Take a record of the late topic."""
        for place in _origin(record.headers, run) or ():
            if self._first(record, place):
                self.late.add(place)

    def note_dead(self, record: KafkaRecord, run: str) -> None:
        """Take a record of the dead-letter topic."""
        places = _origin(record.headers, run)
        try:
            story = DeadLetter.from_headers(record.headers)
        except (KeyError, ValueError):
            return  # somebody else's writing on that topic
        if places is None:
            self.others += 1
            return
        for place, code, reason in _refused_rows(story, record.value, places):
            if self._first(record, place):
                file = place.rpartition(":")[0] or place
                key = (code, file)
                if key not in self.refused and len(self.refused) >= _MOST_REASONS:
                    key = ("more", "")
                self.refused.setdefault(key, Refusal(reason, Places())).rows.add(place)

    def _first(self, record: KafkaRecord, place: str) -> bool:
        """Whether the row was not counted yet: topics carry a record at least once."""
        key = (record.topic, place)
        if key in self._seen:
            return False
        if len(self._seen) < Places.MOST:
            self._seen.add(key)
        return True


def _origin(headers: Iterable[tuple[str, bytes | None]], run: str) -> list[str] | None:
    """The rows that a record of `run` was made of; None where it is not of that run."""
    for name, raw in headers:
        if name == ORIGIN and raw is not None:
            of, _, places = raw.decode(errors="replace").partition(" ")
            if of != run:
                return None
            try:
                return origin_places(places)
            except ValueError:
                return None
    return None


def _refused_rows(
    story: DeadLetter, value: bytes | None, places: list[str]
) -> Iterable[tuple[str, str, str]]:
    """(place, code, reason) of each row that a dead letter is about: of a message of many, the bad."""
    plain = _message(value)
    if plain is None or len(plain["values"]) != len(places):
        return [(place, story.code, story.reason) for place in places]
    if story.code == "conflict":
        against: list[str] = []
        for name in story.reason.partition(" was sent before")[0].split(", "):
            named = [
                place
                for place, one in zip(places, plain["values"], strict=True)
                if name.startswith(
                    f"{one.get('sensor', 'main')}/{one['parameter']}/{one.get('channel', 'value')}/"
                )
            ]
            # Of rows of one message that contradict each other, the first one counts.
            against += named[1:] or named
        return [(place, story.code, story.reason) for place in against or places]
    found = []
    for place, one in zip(places, plain["values"], strict=True):
        _, refused = accept(json.dumps({**plain, "values": [one]}).encode())
        if refused is not None:
            found.append((place, refused.code, _ITEM.sub("", refused.message)))
    return found or [(place, story.code, story.reason) for place in places]


def _message(value: bytes | None) -> Mapping[str, Any] | None:
    """A reading message that a replay made; None for a frame."""
    try:
        plain = json.loads(value or b"")
    except (ValueError, RecursionError):
        return None
    return plain if isinstance(plain, dict) and isinstance(plain.get("values"), list) else None
