"""A duration means the same however it is written, and what is none says how it is written."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from schemas.duration import parse_duration
from settings.sections import WindowSettings

_ISO = TypeAdapter(timedelta)


@given(st.integers(0, 10**7))
def test_every_way_of_writing_it_is_the_same_length(seconds):
    length = timedelta(seconds=seconds)
    hours, rest = divmod(seconds, 3600)
    ways = [
        seconds, float(seconds), f"{seconds}", f" {seconds} ", f"{seconds}s", f"{seconds} s",
        f"{seconds * 1000}ms", f"{hours}h{rest // 60}m{rest % 60}s",
        f"{hours} h {rest // 60} min {rest % 60} s",
        f"PT{seconds}S", _ISO.dump_python(length, mode="json"), length,
    ]  # fmt: skip
    if hours < 24:
        ways.append(f"{hours:02}:{rest // 60:02}:{rest % 60:02}")
    assert {parse_duration(way) for way in ways} == {length}


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("1h30m", 5400), ("2d", 172_800), ("0.5", 0.5), ("1.5h", 5400), (0, 0), ("P1D", 86_400)],
)
def test_examples(written, seconds):
    assert parse_duration(written).total_seconds() == seconds


@pytest.mark.parametrize(
    "written",
    [
        "",
        "soon",
        "5 parsecs",
        "h",
        "1h 30",
        "1_0s",
        "inf",
        "nan",
        "1e400",
        True,
        None,
        [],
        "-5s",
        -1,
        "1e9999",
    ],
)
def test_what_is_no_duration_says_how_one_is_written(written):
    with pytest.raises(ValueError, match=r'a duration is written "60s", "5m", "1h"|cannot be negative'):
        parse_duration(written)


@pytest.mark.parametrize("written", ["3600", 3600, "1h", "60m", "01:00:00", "PT1H", "3600s"])
def test_settings_take_them_all(written):
    assert WindowSettings(size=written).size == timedelta(hours=1)
    with pytest.raises(ValidationError, match='a duration is written "60s"'):
        WindowSettings(idle_timeout="whenever")
    assert WindowSettings(idle_timeout="off").idle_timeout is None
