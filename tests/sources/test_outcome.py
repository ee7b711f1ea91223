"""What became of a replay's rows, told from the topics: each late or refused row once, by file and line."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from datasets.events import ReadingRow
from datasets.spool import Spool
from schemas.errors import Refused
from schemas.reading import accept
from settings.sections import WindowSettings
from sources.replay.outcome import RowsOutcome
from sources.replay.timeline import timeline
from streams.accept import ORIGIN, dead_letter
from streams.topics import DEAD_LETTERS, LATE, READINGS

RUN = "0123456789ab"
_NOW_MS = 1_790_000_000_000


@dataclass
class Record:
    """A record as a consumer gives it."""

    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = field(default_factory=list)
    topic: str = READINGS.name
    partition: int = 0
    offset: int = 0
    timestamp: int = _NOW_MS
    key: bytes | None = b"a"


def sent(rows: list[tuple[str, float | str, str]], run: str = RUN) -> Record:
    """The message that a replay makes of (parameter, value, unit), from line 2 on."""
    with Spool(_NOW_MS) as spool:
        for line, (parameter, value, unit) in enumerate(rows, start=2):
            spool.add(ReadingRow("a", "2026-01-01T00:00:00Z", parameter, value, unit, where=f"r.csv:{line}"))
        [message] = timeline(
            spool.ordered(), spool.span(), partitions=4, window=WindowSettings(), source="test", run=run,
            watermarks=False,
        )  # fmt: skip
    assert isinstance(message.value, bytes)
    return Record(message.value, message.headers)


def dead(record: Record, refused: Refused, partly_used: bool = False) -> Record:
    out = dead_letter(DEAD_LETTERS.name, "fusion", record, refused, partly_used)
    return Record(out.value, [(name, value or b"") for name, value in out.headers], out.topic)


def told(outcome: RowsOutcome) -> dict[str, str]:
    return {refusal.rows.text(): refusal.reason for refusal in outcome.refused.values()}


def test_without_watermarks_only_the_rows_are_sent_and_each_says_where_it_is_from() -> None:
    record = sent([("pm25", 1, "ug/m3"), ("no2", 2, "ppb")])
    assert dict(record.headers)[ORIGIN] == f'{RUN} {{"r.csv:":[2,3]}}'.encode()
    assert not sent([("pm25", 1, "ug/m3")], run="").headers


def test_of_a_message_the_rows_that_are_refused_are_named_with_their_own_reasons() -> None:
    record = sent(
        [("pm25", 1, "ug/m3"), ("pm25", "broken", "ug/m3"), ("no2", 7, "furlong"), ("o3", 3, "ppb")]
    )
    assert record.value is not None
    _, refused = accept(record.value)
    assert refused is not None
    outcome = RowsOutcome()
    outcome.note_dead(dead(record, refused, partly_used=True), RUN)
    assert {place: reason.split(":")[0] for place, reason in told(outcome).items()} == {
        "r.csv:3": "value",
        "r.csv:4": 'no2 cannot come in "furlong"',
    }
    assert (outcome.refusals, outcome.others) == (2, 0)


def test_a_message_that_is_refused_as_a_whole_names_all_its_rows() -> None:
    outcome = RowsOutcome()
    outcome.note_dead(dead(sent([("pm25", 1, "ug/m3"), ("no2", 2, "ppb")]), Refused("no_key", "no key")), RUN)
    assert told(outcome) == {"r.csv:2-3": "no key"}


def test_of_rows_that_contradict_each_other_the_first_counts() -> None:
    record = sent([("pm25", 1, "ug/m3"), ("no2", 5, "ppb"), ("pm25", 2, "ug/m3")])
    conflict = Refused("conflict", "main/pm25/value/17 was sent before with another value")
    outcome = RowsOutcome()
    for _ in range(2):  # at least once
        outcome.note_dead(dead(record, conflict, partly_used=True), RUN)
    assert list(told(outcome)) == ["r.csv:4"]


def test_a_conflict_with_what_was_there_before_names_its_row() -> None:
    record = sent([("pm25", 1, "ug/m3"), ("no2", 5, "ppb")])
    outcome = RowsOutcome()
    outcome.note_dead(dead(record, Refused("conflict", "main/no2/value/17 was sent before"), True), RUN)
    assert list(told(outcome)) == ["r.csv:3"]


def test_late_rows_are_counted_once_and_only_this_runs() -> None:
    outcome = RowsOutcome()
    mine, other = sent([("pm25", 1, "ug/m3"), ("no2", 2, "ppb")]), sent([("pm25", 1, "ug/m3")], run="another")
    for record in (mine, mine, other, Record(b"{}")):
        record.topic = LATE.name
        outcome.note_late(record, RUN)
    assert (outcome.late.count, outcome.late.text()) == (2, "r.csv:2-3")


def test_dead_letters_of_others_are_counted_apart_and_alien_records_let_be() -> None:
    outcome = RowsOutcome()
    live: Any = Record(json.dumps({"station": "b"}).encode())
    outcome.note_dead(dead(live, Refused("too_large", "an estimate")), RUN)
    outcome.note_dead(Record(b"\xff", [(ORIGIN, b"\xff")], DEAD_LETTERS.name), RUN)
    assert (outcome.refusals, outcome.others) == (0, 1)
