"""As many points as a plot can show. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Literal, NamedTuple, get_args

SeriesKind = Literal["measured", "partly", "imputed"]

#: A share of imputed input as near to none, or to all, as this is none, or all.
_SOME: Final = 0.005


class SeriesPoint(NamedTuple):
    """A window's value, or that of an hour or a day that is left of windows. `at`: its end, ms.

    `imputed`: the share of it that is, 0 to 1: an index, an hour and a day may be so in part; `grade`: the
    worst flag, or how far from valid; `span_ms`: of the hour or day that it is the mean of, 0: it is a
    window's; `corrected`: whether it is measured and corrected.
    """

    at: int
    value: float | None
    imputed: float
    lo: float | None
    hi: float | None
    least: float | None
    most: float | None
    grade: int | None
    span_ms: int = 0
    corrected: bool = False

    @property
    def kind(self) -> SeriesKind:
        """Whether it is measured, imputed, or rests on both."""
        if self.imputed <= _SOME:
            return "measured"
        return "partly" if self.imputed < 1 - _SOME else "imputed"


class SeriesSpan(NamedTuple):
    """What is shown of the points between `at` - span and `at`."""

    at: int
    measured: float | None
    partly: float | None
    imputed: float | None
    lo: float | None
    hi: float | None
    least: float | None
    most: float | None
    grade: int | None
    #: By grade, the share of the points that have it; of hours and days none is known.
    shares: Mapping[int, float]
    #: Of the longest hour or day among the points; 0: all are windows.
    length_ms: int


def thin(points: Sequence[SeriesPoint], most: int, unit_ms: int = 1000) -> tuple[int, list[SeriesSpan]]:
    """Length (ms) of a span, and the spans that have any point, oldest first; 0: each point is one.

    Spans have one length, a whole number of `unit_ms`, and end at multiples of it, so that a plot that goes
    on does not change what it showed. No more than `most` + 1 come out.
    """
    if len(points) <= most:
        return 0, [_span(point.at, [point]) for point in points]
    whole = points[-1].at - points[0].at
    span = max(unit_ms, -(-whole // most // unit_ms) * unit_ms)
    while whole // span + 1 > most:
        span += unit_ms
    found: dict[int, list[SeriesPoint]] = {}
    for point in points:
        found.setdefault(-(-point.at // span) * span, []).append(point)
    return span, [_span(at, inside) for at, inside in found.items()]


def _span(at: int, points: Sequence[SeriesPoint]) -> SeriesSpan:
    of: dict[str, list[float]] = {}
    for point in points:
        if point.value is not None:
            of.setdefault(point.kind, []).append(point.value)
    measured, partly, imputed = (_mean(of.get(kind, ())) for kind in get_args(SeriesKind))
    return SeriesSpan(
        at,
        measured,
        partly,
        imputed,
        min(_there(point.lo for point in points), default=None),
        max(_there(point.hi for point in points), default=None),
        min(_there(point.least for point in points), default=None),
        max(_there(point.most for point in points), default=None),
        max((point.grade for point in points if point.grade is not None), default=None),
        {
            grade: count / len(points)
            for grade, count in Counter(point.grade for point in points).items()
            if grade is not None
        },
        max(point.span_ms for point in points),
    )


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _there(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]
