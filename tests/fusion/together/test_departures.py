"""A sensor that has left its neighbours, in the stream: it is said, doubted if far off, not listened to."""

from dataclasses import replace
from typing import get_args

import pytest

from aqi.flags import DRIFT, SUSPECT
from fusion.together.departures import drift_of
from fusion.together.learning import LEARNED, HourSums, Learned, LearnedState, after_hour
from fusion.together.meeting import Meeting
from network.drift import Departure, DriftWatch, watching
from network.members import Variable
from schemas.alone import Alone
from schemas.estimate import DriftKind, Estimate
from schemas.times import DAY_MS, HOUR_MS
from tests.fusion.together.towns import START, Content, Life, air, alone, ends, marks, rules

NAMES = ("a", "b", "c", "d", "e")
HOURS = 60
GONE = Departure("slide", START // DAY_MS - 20, START // DAY_MS - 2, 4.2, -0.18, -0.01, 0.0)


def said(name: str, hour: int, end: int, *, reference: bool = False) -> Alone:
    truth = air(len(NAMES), HOURS + 3, seed=8)
    number = NAMES.index(name)
    one = alone(name, end, {"pm25": float(truth[hour - 1, number])}, place=(45.0 + 0.03 * number, 9.0))
    return one.model_copy(update={"reference": reference})


@pytest.fixture(scope="module")
def learned() -> Learned:
    """What a town of five has learned in some days."""
    log: list[Content] = []
    for hour, end in enumerate(ends(HOURS), 1):
        log += [said(name, hour, end) for name in NAMES]
        log += marks(end)
    life = Life(rules(), log).run(len(log))
    assert life.failed == 0
    return LEARNED.decode(life.meeting.dump("town", START + HOURS * HOUR_MS)).learned()


def next_hour(
    learned: Learned, gone: dict[str, Departure], *, reference: bool = False
) -> dict[str, Estimate]:
    """The estimates of the hour after it, where some sensors have left; `a` may be a reference."""
    drift = watching(DriftWatch(), learned.air.members.variables)
    at = START + HOURS * HOUR_MS
    stored = replace(learned, drift=replace(drift, departures=gone))
    # As it is stored.
    back = LEARNED.decode(LEARNED.encode(LearnedState.of(stored))).learned()
    meeting = Meeting(rules(), None, {"town": (at, back)})
    log: list[Content] = []
    for number, name in enumerate(NAMES):
        log.append(said(name, HOURS + 1, at + HOUR_MS, reference=reference and number == 0))
    life = Life(rules(), [*log, *marks(at + HOUR_MS)])
    life.meeting = meeting
    life.run(len(life.log))
    assert life.failed == 0
    return {one.station: one for one in life.published}


def test_who_is_a_little_off_is_said_and_not_doubted(learned: Learned) -> None:
    calm, found = next_hour(learned, {}), next_hour(learned, {"a|pm25": GONE})
    told = found["a"].drift
    assert told is not None
    assert told["pm25"].kind == "slide"
    assert "slides by -1.0% a day, and reads 18% less than its neighbours let expect" in told["pm25"].reason
    # Some of those that are named for so little are not at fault: the value stays what it was measured as.
    assert found["a"].pollutants == calm["a"].pollutants
    assert found["a"].indices[0] == calm["a"].indices[0]


@pytest.mark.parametrize("gone", [GONE._replace(share=-0.5), GONE._replace(kind="stuck", share=0.0)])
def test_who_is_far_off_is_doubted_in_words(learned: Learned, gone: Departure) -> None:
    found = next_hour(learned, {"a|pm25": gone})
    told = found["a"].drift
    assert told is not None
    assert found["a"].pollutants["pm25"].qc == SUSPECT
    assert found["a"].pollutants["pm25"].qc_tests & DRIFT
    assert told["pm25"].reason in found["a"].indices[0].reason
    assert [found[name].drift for name in "bcde"] == [{}] * 4


def test_it_is_not_listened_to(learned: Learned) -> None:
    calm, gone = next_hour(learned, {}), next_hour(learned, {"a|pm25": GONE})
    assert calm["a"].drift == {}
    assert calm["a"].pollutants["pm25"].qc_tests == 0
    assert gone["b"].pollutants == calm["b"].pollutants  # measured values stay as they are
    now = HourSums()
    for name in NAMES:
        HourSums.add(now.read, (name, "pm25"), 30.0, 3600)
        if name != "a":
            HourSums.add(now.heard, (name, "pm25"), 30.0, 3600)
    end = START + (HOURS + 1) * HOUR_MS
    after = after_hour(learned, end, now, {}, frozenset(), learned.histories, 50.0)
    index = after.air.members.variables.index(Variable("a", "pm25"))
    assert learned.air.whole is not None
    assert after.air.whole is not None
    assert after.air.whole.heard[index] == learned.air.whole.heard[index]
    assert after.drift.today[0, index] == learned.drift.today[0, index] + 1  # it is watched all the same


def test_a_reference_is_not_doubted(learned: Learned) -> None:
    found = next_hour(learned, {"a|pm25": GONE._replace(share=-0.6)}, reference=True)
    assert found["a"].drift == {}
    assert found["a"].pollutants["pm25"].qc_tests == 0


def test_the_watch_sums_up_the_hours_of_the_stream(learned: Learned) -> None:
    assert learned.drift.variables == learned.air.members.variables
    counted = learned.drift.days[:, 0].sum(axis=0) + learned.drift.today[0]
    assert (counted == HOURS).all()


@pytest.mark.parametrize("kind", get_args(DriftKind))
def test_each_kind_has_words(kind: DriftKind) -> None:
    words = drift_of(GONE._replace(kind=kind, offset=12.0), "no2").reason
    assert words.startswith("no2 ")
    assert words.endswith(f"since about {drift_of(GONE, 'no2').since:%Y-%m-%d}")
