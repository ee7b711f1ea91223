"""Limits of one parameter for the tests of quality control."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final

from aqi.errors import QualityError
from aqi.flags import GOOD


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one parameter; None switches a test off. Values in ug/m3, times in seconds."""

    fail_span: tuple[float, float] | None = None
    suspect_span: tuple[float, float] | None = None
    rate: float | None = None
    rate_floor: float = 0.0
    spike: float | None = None
    spike_fail: float | None = None
    flat_tolerance: float | None = None
    flat_suspect_s: int | None = None
    flat_fail_s: int | None = None
    stuck_above: float = -math.inf
    stuck_suspect_s: int | None = None
    stuck_fail_s: int | None = None
    tiny_below: float | None = None
    tiny_s: int | None = None
    lowest_mean: float | None = None
    gap_s: int | None = None
    future_s: int | None = None
    stale_s: int | None = None
    #: The same as plain numbers, for `step` is called for every reading: a switched-off test has a limit that
    #: nothing exceeds. Times in milliseconds.
    plan: tuple[Any, ...] = field(init=False, repr=False, compare=False, default=())

    def __post_init__(self) -> None:
        for name in ("fail_span", "suspect_span"):
            span = getattr(self, name)
            if span is not None and not span[0] < span[1]:
                raise QualityError(f"{name} {list(span)} must be [lowest, highest]")
        inside, outside = self.suspect_span, self.fail_span
        if inside and outside and (inside[0] < outside[0] or inside[1] > outside[1]):
            raise QualityError(f"suspect_span {list(inside)} must lie within fail_span {list(outside)}")
        if (self.flat_tolerance is None) != (self.flat_suspect_s is None and self.flat_fail_s is None):
            raise QualityError("flat_tolerance needs flat_suspect_s or flat_fail_s, and they need it")
        if self.flat_tolerance is not None and not self.flat_tolerance > 0:
            raise QualityError(
                "flat_tolerance must be above zero: exactly equal readings are the stuck test's"
            )
        if (self.tiny_below is None) != (self.tiny_s is None):
            raise QualityError("tiny_below needs tiny_s, and it needs tiny_below")
        if self.lowest_mean is not None and not self.lowest_mean < 0:
            raise QualityError("lowest_mean must be below zero: the mean of clean air is above it")
        object.__setattr__(self, "plan", self._plan())

    def _plan(self) -> tuple[Any, ...]:
        def number_or_inf(number: float | None) -> float:
            return math.inf if number is None else number

        def ms(seconds: int | None) -> float:
            return math.inf if seconds is None else seconds * 1000

        # Whether a test runs on any reading at all, so that the flag is at least GOOD.
        always = any(
            limit is not None
            for limit in (
                self.fail_span,
                self.suspect_span,
                self.flat_tolerance,
                self.stuck_suspect_s,
                self.stuck_fail_s,
                self.tiny_s,
            )
        )
        return (
            *(self.fail_span or (-math.inf, math.inf)),
            *(self.suspect_span or (-math.inf, math.inf)),
            GOOD if always else 0,
            number_or_inf(self.rate),
            self.rate_floor,
            number_or_inf(self.spike),
            number_or_inf(self.spike_fail),
            self.flat_tolerance,
            ms(self.flat_suspect_s),
            ms(self.flat_fail_s),
            1000 * max(self.flat_suspect_s or 0, self.flat_fail_s or 0),
            self.stuck_above,
            ms(self.stuck_suspect_s),
            ms(self.stuck_fail_s),
            ms(self.gap_s),
            ms(self.future_s),
            ms(self.stale_s),
            -math.inf if self.tiny_below is None else self.tiny_below,
            ms(self.tiny_s),
        )


_SETTINGS: Final = tuple(limit.name for limit in fields(Limits) if limit.init)


def limits_from(table: Mapping[str, Any], where: str) -> Limits:
    """Limits from a table of settings (names of `Limits`); QualityError names what is wrong in `where`."""
    unknown = table.keys() - set(_SETTINGS)
    if unknown:
        raise QualityError(
            f"{where}: no such limit: {', '.join(sorted(unknown))}; there are {', '.join(_SETTINGS)}"
        )
    spans = {name: tuple(span) for name, span in table.items() if name.endswith("_span")}
    try:
        return Limits(**{**table, **spans})
    except (QualityError, TypeError, IndexError) as refused:
        raise QualityError(f"{where}: {refused}") from refused
