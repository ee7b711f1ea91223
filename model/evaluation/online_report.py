"""What an online evaluation found: how the virtual sensor and its rivals did, in words, JSON and rows."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, NamedTuple

from camera.far_band import Strip
from schemas.base import format_time, from_ms
from schemas.parameters import Pollutant

#: Standard whose index is checked.
STANDARD: Final = "us-epa-2024"
_PREDICTORS: Final = ("virtual sensor", "last value", "hour-of-day mean", "global head")


@dataclass(frozen=True)
class Skill:
    """How one predictor did: hours it answered, and over those RMSE and MAE (ug/m3) and R2."""

    hours: int
    rmse: float
    mae: float
    r2: float


@dataclass(frozen=True)
class IndexSkill:
    """How an index that rests on imputed hours did, over `hours` of them, in index points: share of its 90 %
    intervals that held the index of the true readings, their mean width, and the mean absolute error.
    """

    hours: int
    coverage: float
    width: float
    mae: float


class ScoredHour(NamedTuple):
    """One hour of a protocol: its end, what was measured, the estimate and its interval (ug/m3)."""

    end_ms: int
    measured: float
    estimate: float
    lo: float
    hi: float


@dataclass(frozen=True)
class ProtocolScore:
    """One protocol's result.

    Attributes:
        name: "next day", the outage's length, or "for good": from the start of what is scored on.
        skills: per predictor ("virtual sensor", "last value", "hour-of-day mean", "global head").
        coverage: share of hours whose measured value lies in the 90 % interval.
        width: mean width of the interval, ug/m3.
        weights: mean shares of camera, last and global.
        refused: hours without an estimate.
        indices: per report of `STANDARD` ("24 h", "nowcast") how its index did.
        series: the scored hours, for plots.
    """

    name: str
    skills: Mapping[str, Skill]
    coverage: float
    width: float
    weights: Mapping[str, float]
    refused: int
    indices: Mapping[str, IndexSkill] = field(default_factory=dict)
    series: tuple[ScoredHour, ...] = ()


@dataclass(frozen=True)
class OnlineReport:
    """What `evaluate_online` found.

    Attributes:
        station, pollutant, bundle: what was measured with which bundle.
        far_band: the band in use at the end, None: the whole frame.
        frames: frames in all; `refused`: how many were not used, by reason (of decoder and gate, or that the
            file cannot be read).
        first, last: first and last scored hour (end, UTC).
        outcomes: the protocols.
        state_bytes: size of the state at the end.
    """

    station: str
    pollutant: Pollutant
    bundle: str
    far_band: Strip | None
    frames: int
    refused: Mapping[str, int]
    first: datetime | None
    last: datetime | None
    outcomes: tuple[ProtocolScore, ...]
    state_bytes: int

    def to_plain(self) -> dict[str, Any]:
        """JSON-able form, without the series."""
        band = self.far_band
        return {
            "station": self.station,
            "pollutant": self.pollutant,
            "unit": "ug/m3",
            "bundle": self.bundle,
            "far_band": None if band is None else [band.top, band.bottom, band.left, band.right],
            "frames": self.frames,
            "refused": dict(self.refused),
            "first": self.first.isoformat() if self.first else None,
            "last": self.last.isoformat() if self.last else None,
            "state_bytes": self.state_bytes,
            "standard": STANDARD,
            "outcomes": [
                {
                    "protocol": outcome.name,
                    "skills": {name: _told(skill) for name, skill in outcome.skills.items()},
                    "coverage": outcome.coverage if outcome.series else None,
                    "width": outcome.width if outcome.series else None,
                    "weights": dict(outcome.weights) if outcome.series else None,
                    "refused": outcome.refused,
                    "indices": {name: _told(skill) for name, skill in outcome.indices.items()},
                }
                for outcome in self.outcomes
            ],
        }

    def to_json(self) -> str:
        """The report as one line of JSON; null where a figure is none."""
        return json.dumps(self.to_plain(), allow_nan=False)

    def hours(self) -> Iterator[dict[str, Any]]:
        """Every scored hour of every protocol that has an estimate, as plain data: ug/m3."""
        for outcome in self.outcomes:
            for end_ms, measured, estimate, low, high in outcome.series:
                yield {
                    "station": self.station,
                    "pollutant": self.pollutant,
                    "protocol": outcome.name,
                    "end": format_time(from_ms(end_ms)),
                    "measured": measured,
                    "estimate": estimate,
                    "lo": low,
                    "hi": high,
                }

    def to_markdown(self) -> str:
        """The report as Markdown."""
        band = self.far_band
        where = (
            "the whole frame" if band is None else f"rows {band.top:.3f} to {band.bottom:.3f} of the picture"
        )
        refused = ", ".join(f"{count} {reason}" for reason, count in sorted(self.refused.items())) or "none"
        both, hours = (
            ("both frames and readings", "a usable frame and a measurement")
            if self.frames
            else ("readings", "a measurement")
        )
        lines = [
            f"## Virtual sensor online: {self.station}, {self.pollutant}",
            "",
            f"Bundle {self.bundle}; "
            + (
                f"camera looks at {where}; {self.frames} frames, refused: {refused}"
                if self.frames
                else "no camera"
            )
            + f"; scored from {self.first:%Y-%m-%d} to {self.last:%Y-%m-%d}; state {self.state_bytes} bytes."
            if self.first and self.last
            else f"Nothing could be scored: too few days with {both}.",
            "",
            f"RMSE in ug/m3 / R2 over the same hours (those with {hours}).",
            "",
            "| sensor silent | hours | virtual sensor | last value | hour-of-day mean | global head "
            "| 90 % interval holds | mean width | camera's share "
            "| 90 % interval of the index holds, 24 h / NowCast |",
            "|---|---|---|---|---|---|---|---|---|---|",
        ]
        for outcome in self.outcomes:
            cells = [
                f"{skill.rmse:.2f} / {skill.r2:.2f}" if skill.hours else "–"
                for skill in (outcome.skills[name] for name in _PREDICTORS)
            ]
            lines.append(
                f"| {outcome.name} | {outcome.skills['virtual sensor'].hours} | "
                + " | ".join(cells)
                + f" | {outcome.coverage:.1%} | {outcome.width:.1f} | {outcome.weights['camera']:.0%} | "
                + " / ".join(
                    f"{skill.coverage:.1%}" if skill.hours else "–" for skill in outcome.indices.values()
                )
                + " |"
            )
        return "\n".join(lines) + "\n"


def _told(skill: Skill | IndexSkill) -> dict[str, float | None]:
    """As JSON can say it: figures over no hours are none."""
    return {
        name: value if math.isfinite(value) and (skill.hours or name == "hours") else None
        for name, value in vars(skill).items()
    }
