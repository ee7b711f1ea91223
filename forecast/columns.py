"""What the columns of a row of trees and ridge are called, in the order of `features`. Pure."""

from collections.abc import Iterator
from functools import cache
from typing import Final, Literal, NamedTuple

from forecast.averages import MEANS
from forecast.features import LAGS, MOVES, NEAR_LAGS, NEAR_MEANS
from forecast.panel import WEATHER_CHANNELS
from schemas.parameters import POLLUTANTS

_P: Final = len(POLLUTANTS)
_CLOCK: Final = ("hour, sine", "hour, cosine", "day of the year, sine", "day of the year, cosine", "weekend")
_MOVED: Final = ("", ", change in 1 h", ", change in 3 h")
#: What a column speaks of.
Subject = Literal[
    "own", "neighbours", "others", "wind", "heat", "pressure", "rain", "clock", "horizon",
    "wind to come", "heat to come", "pressure to come", "rain to come",
]  # fmt: skip
#: What each of `WEATHER_CHANNELS` speaks of, as it was and as it is to come.
SKY: Final[tuple[Subject, ...]] = ("heat", "heat", "pressure", "wind", "wind", "wind", "rain")
SKY_TO_COME: Final[tuple[Subject, ...]] = (
    "heat to come", "heat to come", "pressure to come",
    "wind to come", "wind to come", "wind to come", "rain to come",
)  # fmt: skip


class Column(NamedTuple):
    """What a column of a row speaks of, and how it is called."""

    subject: Subject
    name: str


@cache
def columns(told: int) -> tuple[Column, ...]:
    """The columns of a row of trees and ridge, without (0) or with (1) the weather to come."""
    return (*_of_origin(), *_of_horizon(told), *_of_shifts())


def _of_origin() -> Iterator[Column]:
    yield from (Column("own", name) for name in ("last value", "its age"))
    yield from (Column("own", f"{lag} h before") for lag in LAGS)
    yield from (Column("own", f"mean of {hours} h") for hours in MEANS)
    yield from (
        Column("own", f"{name} of 24 h") for name in ("lowest", "highest", "spread", "share measured")
    )
    yield from (Column("neighbours", f"neighbours {lag} h before") for lag in NEAR_LAGS)
    yield from (Column("neighbours", f"neighbours' mean of {hours} h") for hours in NEAR_MEANS)
    yield Column("neighbours", "above the neighbours")
    for place in range(1, _P):
        for name in ("last value", "mean of 24 h", "neighbours"):
            yield Column("others", f"other pollutant {place}: {name}")
    for channel, subject in enumerate(SKY):
        sky = WEATHER_CHANNELS[channel]
        yield from (Column(subject, name) for name in (sky, f"{sky}, mean of 6 h", f"{sky}, mean of 24 h"))
        if channel < 3:
            yield from (Column(subject, f"{sky}, change in {hours} h") for hours in (3, 24))
    yield from (Column("clock", name) for name in _CLOCK)


def _of_horizon(told: int) -> Iterator[Column]:
    yield Column("horizon", "hours ahead")
    yield from (Column("own", f"same hour {days} before") for days in ("a day", "two days"))
    yield from (Column("clock", f"{name} then") for name in _CLOCK)
    for what in ("then", "mean until then", "mean of 6 h before then") if told else ():
        for channel, subject in enumerate(SKY_TO_COME):
            yield Column(subject, f"{WEATHER_CHANNELS[channel]} {what}")


def _of_shifts() -> Iterator[Column]:
    yield from (Column("own", f"change in {hours} h") for hours in (1, 2, 3, 6))
    yield Column("own", "change in the hour before")
    yield from (Column("own", f"above its mean of {hours} h") for hours in (3, 12))
    yield from (Column("neighbours", f"neighbours' change in {hours} h") for hours in (1, 2, 3))
    yield Column("neighbours", "the usual neighbour's change in 1 h")
    for what in ("beside here", "change in 1 h"):
        yield from (Column("neighbours", f"{side} neighbour: {what}") for side in ("lowest", "highest"))
    for place in range(1, _P):
        yield from (Column("others", f"other pollutant {place}: change in {hours} h") for hours in (1, 3))
        for name in ("above the neighbours", "neighbours' change in 1 h"):
            yield Column("neighbours", f"other pollutant {place}: {name}")
    for channel in MOVES:
        sky = WEATHER_CHANNELS[channel]
        yield Column(SKY[channel], f"{sky}, change in 1 h")
        yield from (Column(SKY[channel], f"neighbours' {sky}{what}") for what in _MOVED)
