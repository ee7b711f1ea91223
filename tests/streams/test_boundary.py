"""Refusals: what becomes one, what does not, and who of many is guilty."""

import logging
import sqlite3

import pytest
from aiokafka import ConsumerRecord
from hypothesis import given
from hypothesis import strategies as st

from schemas.dead_letter import DeadLetter
from schemas.errors import Refused
from schemas.station import Station
from settings.names import TopicNames
from streams.boundary import guarded, isolated
from streams.errors import DeliveryError
from streams.letters import Letters


def raises(error):
    def work():
        raise error

    return work


@pytest.mark.parametrize(
    "error", [MemoryError(), OSError("disk"), sqlite3.DatabaseError("malformed"), DeliveryError("broker")]
)
def test_what_is_not_the_records_doing_goes_on_upwards(error):
    with pytest.raises(type(error)):
        guarded(raises(error))
    with pytest.raises(type(error)):
        isolated(lambda _: raises(error)(), [1, 2, 3])


def test_being_cancelled_is_no_refusal():
    with pytest.raises(KeyboardInterrupt):
        guarded(raises(KeyboardInterrupt()))


def test_what_nobody_expected_is_a_refusal_and_told_once(caplog):
    work = raises(ZeroDivisionError("by zero"))
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            refused = guarded(work)
            assert isinstance(refused, Refused)
            assert refused.code == "unexpected"
            assert "ZeroDivisionError: by zero" in refused.message
    (told,) = [one for one in caplog.records if one.exc_info]
    assert told.exc_info[0] is ZeroDivisionError


def test_known_refusals_keep_their_code():
    assert guarded(raises(Refused("late", "too late"))).code == "late"
    broken = guarded(lambda: Station.model_validate_json(b"{"))
    assert isinstance(broken, Refused)
    assert broken.code == "not_json"
    assert guarded(lambda: 5) == 5


@given(st.lists(st.booleans(), max_size=40))
def test_only_the_guilty_are_left_out_and_the_others_are_worked_on_once_in_order(guilt):
    done = []

    def work(part):
        if any(guilty for _, guilty in part):
            raise ArithmeticError("guilty")
        done.extend(part)
        return list(part)

    items = list(enumerate(guilt))
    made, guilty = isolated(work, items)
    assert [one for part in made for one in part] == done == [one for one in items if not one[1]]
    assert [one for one, _ in guilty] == [one for one in items if one[1]]


def test_a_record_is_one_dead_letter_whatever_all_is_wrong_with_it():
    record = ConsumerRecord("t", 0, 5, -1, 1, b"k", b"v", None, 1, 1, (("h", None), ("x-dlq-code", b"old")))
    letters = Letters(TopicNames(), "fusion")
    letters.add(record, Refused("unit", "bad \ud800" + "x" * 10_000), used=True)
    letters.add(record, Refused("conflict", "known"), used=False)
    (letter,) = letters.out()
    story = DeadLetter.from_headers(letter.headers)
    assert (story.code, story.offset, story.partly_used) == ("unit", 5, False)
    assert len(story.reason) < 3000
    assert (letter.key, letter.value) == (b"k", b"v")
    assert list(letter.headers)[:2] == [("h", None), ("x-dlq-code", b"old")]
