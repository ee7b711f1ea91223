"""A suggested correction as a picture: what a sensor read, beside what its neighbours let expect."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final
from xml.sax.saxutils import escape

from network.calibration import Suggestion
from schemas.parameters import LABELS
from schemas.times import DAY_MS

_WIDTH: Final = 760
_HEIGHT: Final = 320
_LEFT: Final = 56
_RIGHT: Final = 16
_TOP: Final = 48
_BOTTOM: Final = 36
_READ: Final = "#c0392b"
_EXPECTED: Final = "#2c3e50"
_CORRECTED: Final = "#2980b9"


def svg(suggestion: Suggestion) -> str:
    """The picture, an SVG document."""
    points = suggestion.points
    first, last = points[0].day, max(points[-1].day, points[0].day + 1)
    slope, offset = suggestion.slope.value, suggestion.offset.value
    series = (
        ("read", _READ, [one.read for one in points]),
        ("expected by its neighbours", _EXPECTED, [one.expected for one in points]),
        ("read, as corrected", _CORRECTED, [slope * one.read + offset for one in points]),
    )
    top = max(max(values) for _, _, values in series) or 1.0

    def x(day: float) -> float:
        return _LEFT + (day - first) / (last - first) * (_WIDTH - _LEFT - _RIGHT)

    def y(value: float) -> float:
        return _HEIGHT - _BOTTOM - max(value, 0.0) / top * (_HEIGHT - _TOP - _BOTTOM)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif"'
        ' font-size="12">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        f'<text x="{_LEFT}" y="18">{escape(suggestion.station)}, {LABELS[suggestion.pollutant]}, ug/m3,'
        f" by the day: {escape(suggestion.correction)}</text>",
    ]
    for number in range(5):
        value = top * number / 4
        parts.append(
            f'<path d="M{_LEFT} {y(value):.1f}H{_WIDTH - _RIGHT}" stroke="#ddd"/>'
            f'<text x="{_LEFT - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{value:.3g}</text>'
        )
    parts += [
        f'<text x="{x(day):.1f}" y="{_HEIGHT - 12}" text-anchor="middle">{_date(day)}</text>'
        for day in (first, (first + last) // 2, last)
    ]
    if suggestion.departure is not None and first <= suggestion.departure.since <= last:
        at = x(suggestion.departure.since)
        parts.append(f'<path d="M{at:.1f} {_TOP}V{_HEIGHT - _BOTTOM}" stroke="#888" stroke-dasharray="4"/>')
    at = float(_LEFT)
    for name, colour, values in series:
        line = _line([(x(one.day), y(value)) for one, value in zip(points, values, strict=True)])
        parts.append(f'<path d="{line}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        parts.append(f'<text x="{at:.0f}" y="38" fill="{colour}">{escape(name)}</text>')
        at += 8.0 * len(name) + 24.0
    return "\n".join([*parts, "</svg>\n"])


def _line(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{across:.1f} {down:.1f}" for across, down in points)


def _date(day: int) -> str:
    return f"{datetime.fromtimestamp(day * DAY_MS / 1000, UTC):%Y-%m-%d}"
