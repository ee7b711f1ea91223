"""The published tables, typed in a second time in the documents' form, and the rules as plain fractions.

An oracle for the data files and for the integer arithmetic of `aqi.standards`: it shares no code with them.
"""

from dataclasses import dataclass
from decimal import ROUND_DOWN, ROUND_HALF_EVEN, ROUND_HALF_UP, Decimal
from fractions import Fraction


@dataclass(frozen=True)
class Oracle:
    """One table: upper edges of concentration and index, the step of the concentration, and the rules."""

    standard: str
    parameter: str
    averaging: str
    unit: str
    edges: tuple[Decimal, ...]  # first edge is where the table starts
    indices: tuple[tuple[int, int], ...]
    step: Decimal  # what the concentration is rounded to; zero: not rounded
    rounding: str = ROUND_DOWN
    gap: Decimal = Decimal(0)  # distance between the end of a band and the start of the next
    above: int | None = None  # None: the last line goes on
    ignore_below: bool = False
    up: bool = False  # the index is rounded up
    steps: bool = False  # no interpolation
    least: int = 0

    @property
    def bands(self) -> list[tuple[Decimal, Decimal, int, int]]:
        lows = [self.edges[0], *(edge + self.gap for edge in self.edges[1:-1])]
        return [
            (low, high, first, last)
            for low, high, (first, last) in zip(lows, self.edges[1:], self.indices, strict=True)
        ]

    def index(self, value: Decimal) -> int | None:
        c = value.quantize(self.step, self.rounding) if self.step else value
        bands = self.bands
        if self.ignore_below and c < bands[0][0]:
            return None
        for low, high, first, last in bands:
            if c <= high:
                return self._line(max(c, low), low, high, first, last)
        if self.above is not None:
            return self.above
        return self._line(c, *bands[-1])

    def _line(self, c: Decimal, low: Decimal, high: Decimal, first: int, last: int) -> int:
        if self.steps:
            return first
        exact = first + Fraction(last - first) * (Fraction(c) - Fraction(low)) / (
            Fraction(high) - Fraction(low)
        )
        if self.up:
            return max(-((-exact.numerator) // exact.denominator), self.least)
        shifted = exact + Fraction(1, 2)
        return max(shifted.numerator // shifted.denominator, self.least)


def _numbers(text: str) -> tuple[Decimal, ...]:
    return tuple(Decimal(number) for number in text.replace("/", " ").split())


_LOW5 = ((0, 50), (51, 100), (101, 150), (151, 200), (201, 300))


def _us(standard: str, one_segment: bool, pm25: str, tops: dict[str, str]) -> list[Oracle]:
    top = ((301, 500),) if one_segment else ((301, 400), (401, 500))
    rows = [
        ("pm25", "24h", "ug/m3", "0 " + pm25, "0.1", _LOW5 + top, None, False),
        ("pm10", "24h", "ug/m3", "0 54/154/254/354/424/" + tops["pm10"], "1", _LOW5 + top, None, False),
        ("no2", "1h", "ppb", "0 53/100/360/649/1249/" + tops["no2"], "1", _LOW5 + top, None, False),
        ("so2", "1h", "ppb", "0 35/75/185/304", "1", _LOW5[:4], 200, False),
        ("so2", "24h", "ppb", "305 604/" + tops["so2"], "1", (_LOW5[4], *top), None, True),
        ("co", "8h", "ppm", "0 4.4/9.4/12.4/15.4/30.4/" + tops["co"], "0.1", _LOW5 + top, None, False),
        ("o3", "8h", "ppm", "0 .054/.070/.085/.105/.200", "0.001", _LOW5, 300, False),
        ("o3", "1h", "ppm", ".125 .164/.204/.404/" + tops["o3"], "0.001", _LOW5[2:] + top, None, True),
    ]
    return [
        Oracle(
            standard, parameter, averaging, unit, _numbers(edges), indices, Decimal(step),
            gap=Decimal(step), above=above, ignore_below=ignore,
        )
        for parameter, averaging, unit, edges, step, indices, above, ignore in rows
    ]  # fmt: skip


def _india() -> list[Oracle]:
    scale = ((0, 50), (51, 100), (101, 200), (201, 300), (301, 400), (401, 500))
    rows = [
        ("pm25", "24h", "ug/m3", "0 30/60/90/120/250/380", "1", scale, 500, False),
        ("pm10", "24h", "ug/m3", "0 50/100/250/350/430/510", "1", scale, 500, False),
        ("no2", "24h", "ug/m3", "0 40/80/180/280/400/520", "1", scale, 500, False),
        ("so2", "24h", "ug/m3", "0 40/80/380/800/1600/2400", "1", scale, 500, False),
        ("co", "8h", "mg/m3", "0 1.0/2.0/10/17/34/51", "0.1", scale, 500, False),
        ("o3", "8h", "ug/m3", "0 50/100/168/208", "1", scale[:4], 300, False),
        ("o3", "1h", "ug/m3", "209 748/1287", "1", scale[4:], 500, True),
        ("nh3", "24h", "ug/m3", "0 200/400/800/1200/1800/2400", "1", scale, 500, False),
        ("pb", "24h", "ug/m3", "0 0.5/1/2/3/3.5/4", "0.01", scale, 500, False),
    ]
    return [
        Oracle(
            "in-naqi-2014", parameter, averaging, unit, _numbers(edges), indices, Decimal(0),
            gap=Decimal(gap), above=above, ignore_below=ignore,
        )
        for parameter, averaging, unit, edges, gap, indices, above, ignore in rows
    ]  # fmt: skip


def _china(standard: str, pm10_100: str, pm25_100: str, hourly_pm: bool) -> list[Oracle]:
    scale = ((0, 50), (50, 100), (100, 150), (150, 200), (200, 300), (300, 400), (400, 500))
    pm25, pm10 = f"0 35/{pm25_100}/115/150/250/350/500", f"0 50/{pm10_100}/250/350/420/500/600"
    rows = [
        ("so2", "24h", "ug/m3", "0 50/150/475/800/1600/2100/2620", "1", 500),
        ("so2", "1h", "ug/m3", "0 150/500/650/800", "1", 200),
        ("no2", "24h", "ug/m3", "0 40/80/180/280/565/750/940", "1", 500),
        ("no2", "1h", "ug/m3", "0 100/200/700/1200/2340/3090/3840", "1", 500),
        ("co", "24h", "mg/m3", "0 2/4/14/24/36/48/60", "0.1", 500),
        ("co", "1h", "mg/m3", "0 5/10/35/60/90/120/150", "0.1", 500),
        ("o3", "8h", "ug/m3", "0 100/160/215/265/800", "1", 300),
        ("o3", "1h", "ug/m3", "0 160/200/300/400/800/1000/1200", "1", 500),
        ("pm10", "24h", "ug/m3", pm10, "1", 500),
        ("pm25", "24h", "ug/m3", pm25, "1", 500),
    ]
    if hourly_pm:
        rows += [("pm10", "1h", "ug/m3", pm10, "1", 500), ("pm25", "1h", "ug/m3", pm25, "1", 500)]
    return [
        Oracle(
            standard, parameter, averaging, unit, _numbers(edges), scale[: len(_numbers(edges)) - 1],
            Decimal(step), ROUND_HALF_EVEN, above=above, up=True, least=1,
        )
        for parameter, averaging, unit, edges, step, above in rows
    ]  # fmt: skip


def _steps(standard: str, averaging: dict[str, str], bounds: dict[str, str], step: str) -> list[Oracle]:
    made = []
    for parameter, text in bounds.items():
        edges = (Decimal(0), *_numbers(text))
        made.append(
            Oracle(
                standard, parameter, averaging.get(parameter, "1h"), "ug/m3", edges,
                tuple((place, place) for place in range(1, len(edges))), Decimal(step), ROUND_HALF_UP,
                above=len(edges), steps=True,
            )
        )  # fmt: skip
    return made


ORACLES: list[Oracle] = [
    *_us(
        "us-epa-2024",
        True,
        "9.0/35.4/55.4/125.4/225.4/325.4",
        {"pm10": "604", "no2": "2049", "so2": "1004", "co": "50.4", "o3": ".604"},
    ),
    *_us(
        "us-epa-2012",
        False,
        "12.0/35.4/55.4/150.4/250.4/350.4/500.4",
        {
            "pm10": "504/604",
            "no2": "1649/2049",
            "so2": "804/1004",
            "co": "40.4/50.4",
            "o3": ".504/.604",
        },
    ),
    *_india(),
    *_china("cn-hj633-2026", "120", "60", True),
    *_china("cn-hj633-2012", "150", "75", False),
    *_steps(
        "eaqi-2025",
        {},
        {
            "pm25": "5/15/50/90/140",
            "pm10": "15/45/120/195/270",
            "o3": "60/100/120/160/180",
            "no2": "10/25/60/100/150",
            "so2": "20/40/125/190/275",
        },
        "0",
    ),
    *_steps(
        "uk-daqi",
        {"pm25": "24h", "pm10": "24h", "o3": "8h", "so2": "15min"},
        {
            "pm25": "11 23 35 41 47 53 58 64 70",
            "pm10": "16 33 50 58 66 75 83 91 100",
            "no2": "67 134 200 267 334 400 467 534 600",
            "o3": "33 66 100 120 140 160 187 213 240",
            "so2": "88 177 266 354 443 532 710 887 1064",
        },
        "1",
    ),
]
