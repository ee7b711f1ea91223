"""Of things that measure the same one is dead, or does not move: it never speaks for the air."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from schemas.base import to_ms
from schemas.estimate import Estimate
from schemas.station import Sensor, Station
from tests.fusion.town import DAY, HOUR, MINUTE, SECOND, Town, reading, value

Said = Callable[[int], Sequence[Mapping[str, Any]]]


def windows(said: Said, minutes: int, station: Station | None = None) -> list[Estimate]:
    """Estimates of a station that says `said(minute)` at five seconds past every minute."""
    town = Town({"s": station} if station else {})
    town.hear(
        reading("s", DAY + minute * MINUTE + 5 * SECOND, *values)
        for minute in range(minutes)
        if (values := said(minute))
    )
    town.until(DAY + (minutes + 1) * MINUTE)
    return town.of("s")


def pm25(estimates: Sequence[Estimate], minute: int) -> tuple[str, float | None, int]:
    """Kind, value, flag in the window that begins with a minute."""
    found = [one for one in estimates if to_ms(one.window.start) == DAY + minute * MINUTE]
    if not found or "pm25" not in found[0].pollutants:
        return "missing", None, 9
    one = found[0].pollutants["pm25"]
    return one.kind, one.value, one.qc


@pytest.mark.parametrize("how", ["channels", "sensors", "letters", "three"])
def test_the_dead_one_does_not_win_when_smoke_comes(how: str) -> None:
    def pair(dead: float, living: float) -> list[dict[str, Any]]:
        match how:
            case "channels":
                return [value("pm25", dead, channel="value_a"), value("pm25", living, channel="value_b")]
            case "letters":
                return [value("pm25", dead, channel="a"), value("pm25", living, channel="b")]
            case "three":
                third = value("pm25", living + 0.3, sensor="c")
                return [value("pm25", dead, sensor="a"), value("pm25", living, sensor="b"), third]
        return [value("pm25", dead, sensor="a"), value("pm25", living, sensor="b")]

    estimates = windows(lambda minute: pair(0.0, 300.0 if minute >= 120 else 2.0 + minute % 5 / 10), 125)
    kind, level, _ = pm25(estimates, 121)
    assert kind == "measured"
    assert level == pytest.approx(300.0, abs=1.0)


def test_in_clean_air_one_that_shows_something_else_than_nothing_now_and_then_is_alive() -> None:
    """The other one has a spider in it."""

    def said(minute: int) -> list[dict[str, Any]]:
        clean = 0.0 if minute % 3 else 1.0
        spider = 300.0 if minute >= 120 else 1.0
        return [value("pm25", clean, channel="value_a"), value("pm25", spider, channel="value_b")]

    estimates = windows(said, 130)
    published = [pm25(estimates, minute) for minute in range(120, 130)]
    assert all(level is None or level < 10.0 for _, level, _ in published), published


def test_what_only_one_showed_before_the_other_spoke_is_no_past() -> None:
    def said(minute: int) -> list[dict[str, Any]]:
        dead = value("pm25", 0.0, channel="value_a")
        return [dead] if minute < 1 else [dead, value("pm25", 60.0 + minute % 3, channel="value_b")]

    estimates = windows(said, 60)
    assert {pm25(estimates, minute)[1] for minute in range(1, 60)} == {60.0, 61.0, 62.0}


@pytest.mark.parametrize("died", [0, 60])
def test_a_dead_one_does_not_speak_alone_when_the_other_falls_silent(died: int) -> None:
    def said(minute: int) -> list[dict[str, Any]]:
        first = value("pm25", 0.0 if minute >= died else 60.0, channel="value_a")
        both = [first, value("pm25", 60.0, channel="value_b")]
        return both if minute < died + 3 else both[:1]

    estimates = windows(said, died + 30)
    for minute in range(died + 4, died + 30):
        kind, level, _ = pm25(estimates, minute)
        assert kind != "measured", (minute, level)


def test_a_zero_in_clean_air_counts_also_alone() -> None:
    def said(minute: int) -> list[dict[str, Any]]:
        both = [value("pm25", 0.0 if minute % 4 else 1.0, channel=f"value_{one}") for one in "ab"]
        return both[:1] if minute == 30 else both

    estimates = windows(said, 40)
    assert pm25(estimates, 30) == ("measured", 0.0, 1)


def test_a_sensor_that_never_showed_anything_is_doubted() -> None:
    assert pm25(windows(lambda _: [value("pm25", 0.0)], 5), 3) == ("measured", 0.0, 3)


def test_two_devices_under_one_name_are_not_averaged() -> None:
    town = Town()
    town.hear(
        reading("s", DAY + half * 30 * SECOND + SECOND, value("pm25", 60.0 if half % 2 else 0.0))
        for half in range(20)
    )
    town.until(DAY + 10 * MINUTE)
    found = [one for one in town.of("s") if one.pollutants["pm25"].n]
    assert {one.pollutants["pm25"].value for one in found} == {60.0}
    assert {one.pollutants["pm25"].qc for one in found} == {3}
    assert "one device" in str(found[-1].pollutants["pm25"].refused)


@pytest.mark.parametrize(("indoor", "outdoor"), [(5.0, 80.0), (0.0, 60.0)])
def test_channels_of_unknown_names_that_disagree_are_asked_about(indoor: float, outdoor: float) -> None:
    def said(_: int) -> list[dict[str, Any]]:
        return [value("pm25", indoor, channel="indoor"), value("pm25", outdoor, channel="outdoor")]

    last = windows(said, 5)[-1]
    assert "name the one to take as `channel`" in str(last.missing)
    named = Station(station="s", sensors=(Sensor(sensor="main", parameters=("pm25",), channel="outdoor"),))
    assert pm25(windows(said, 5, named), 3)[1] == outdoor


def test_of_unknown_names_that_agree_one_is_taken_and_the_other_told() -> None:
    def said(_: int) -> list[dict[str, Any]]:
        return [value("pm25", 20.0, channel="ch1"), value("pm25", 21.0, channel="ch2")]

    one = windows(said, 5)[-1].pollutants["pm25"]
    assert one.value == 20.0
    assert "main/ch2" in one.refused


def test_two_dead_ones_do_not_outvote_the_one_that_lives() -> None:
    def said(_: int) -> list[dict[str, Any]]:
        levels = {"a": 0.0, "b": 0.0, "c": 60.0}
        return [value("pm25", level, sensor=name) for name, level in levels.items()]

    one = windows(said, 5)[-1].pollutants["pm25"]
    assert (one.value, sorted(one.refused)) == (60.0, ["a", "b"])


def test_in_clean_air_two_that_show_nothing_and_one_that_shows_much_leave_it_open() -> None:
    def said(minute: int) -> list[dict[str, Any]]:
        clean = 0.0 if minute % 3 else 1.0
        levels = {"a": clean, "b": clean, "c": 300.0 if minute >= 60 else 1.0}
        return [value("pm25", level, sensor=name) for name, level in levels.items()]

    estimates = windows(said, 70)
    assert all((pm25(estimates, minute)[1] or 0.0) < 10.0 for minute in range(60, 70))


BARKJOHN = Station(
    station="s", sensors=(Sensor(sensor="pa", parameters=("pm25",), correction="barkjohn-2021"),)
)


def damp(*percents: float) -> list[dict[str, Any]]:
    return [
        value("relativehumidity", percent, "%", sensor=f"h{number}")
        for number, percent in enumerate(percents)
    ]


@pytest.mark.parametrize("stuck", [12.0, 5.0, 1.0])
def test_a_stuck_humidity_beside_a_good_one_moves_nothing(stuck: float) -> None:
    def said(minute: int) -> list[dict[str, Any]]:
        return [value("pm25", 10.0, sensor="pa", channel="cf_1"), *damp(55.0 + minute % 3, stuck)]

    estimates = windows(said, 30, BARKJOHN)
    wanted = [0.524 * 10 - 0.0862 * (55.0 + minute % 3) + 5.75 for minute in range(30)]
    assert [pm25(estimates, minute)[1] for minute in range(30)] == pytest.approx(wanted, abs=0.01)


@pytest.mark.parametrize(("percent", "why"), [(0.55, "a fraction?"), (0.0, "no humidity of outdoor air")])
def test_a_humidity_that_is_none_is_told(percent: float, why: str) -> None:
    last = windows(lambda _: [value("pm25", 10.0, sensor="pa", channel="cf_1"), *damp(percent)], 5, BARKJOHN)[
        -1
    ]
    assert why in str({**last.missing, **last.pollutants})


def test_a_message_that_names_no_sensor_has_the_correction_of_the_only_one() -> None:
    last = windows(lambda _: [value("pm25", 80.0, channel="cf_1"), *damp(50.0)], 5, BARKJOHN)[-1]
    assert (last.pollutants["pm25"].kind, last.pollutants["pm25"].raw) == ("corrected", 80.0)


def test_a_whole_number_of_humidity_may_stand_for_a_night() -> None:
    town = Town({"s": BARKJOHN})
    town.hear(
        reading(
            "s",
            DAY + at * 10 * MINUTE,
            value("pm25", 10.0 + at % 3, sensor="pa", channel="cf_1"),
            *damp(87.0),
        )
        for at in range(9 * 6)
    )
    town.until(DAY + 9 * HOUR)
    assert town.of("s")[-20].pollutants["pm25"].kind == "corrected"
