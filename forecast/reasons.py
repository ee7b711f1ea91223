"""Why each station's forecast says what it says, in the stream: once an hour, for one horizon. Pure."""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from forecast.columns import SKY
from forecast.explanation import ForecastExplanation, explained_rows, sentence
from forecast.features import LOOKBACK
from forecast.mix import Mix
from forecast.models import ForecastInputs
from forecast.panel import WEATHER_CHANNELS
from schemas.arrays import Float32
from schemas.forecast import REASONS_HOURS, ForecastReason

_SPEED: Final = WEATHER_CHANNELS.index("wind_speed")
_RAIN: Final = WEATHER_CHANNELS.index("rain")
#: Hours for which a wind that was measured stands for the wind now.
_STANDS: Final = 3
#: A wind that changes by less (m/s) stays as it is.
_STEADY: Final = 0.5
#: Less than this part of a last value (or of 1 ug/m3) is no difference worth a number.
_ALIKE: Final = 0.05


def reasons(
    mix: Mix, inputs: ForecastInputs, rows: Sequence[int], pollutant: int, means: Sequence[float],
    measured: Sequence[bool],
) -> list[ForecastReason]:  # fmt: skip
    """Of the stations in `rows` of the panel, from its last hour; `means`: what `mix` says there so far ahead
    (ug/m3); `measured`: whether anything was, else the panel has what was estimated there.
    """
    made = []
    for row, any_measured, one in zip(
        rows,
        measured,
        explained_rows(mix, inputs, rows, LOOKBACK - 1, pollutant, REASONS_HOURS, means),
        strict=True,
    ):
        shares: dict[str, float] = {subject: _short(by) for subject, by in one.shares.items()}
        made.append(
            ForecastReason(
                hours=REASONS_HOURS, last=_short(one.last), mean=_short(one.mean), usual=_short(one.usual),
                shares=shares, unshared=_short(one.unshared),
                words=sentence(one, facts(inputs, row, pollutant, one, any_measured)),
            )
        )  # fmt: skip
    return made


def another_spoke(model: str, last: float, mean: float) -> ForecastReason:
    """Where it is not the mix that speaks: nothing is shared out."""
    return ForecastReason(
        hours=REASONS_HOURS, last=_short(last), mean=_short(mean),
        words=f"by {model}, which has erred least here lately",
    )  # fmt: skip


def facts(
    inputs: ForecastInputs, row: int, pollutant: int, one: ForecastExplanation, measured: bool
) -> Mapping[str, str]:
    """What stands behind a subject, as a person would say it; what is not known is left out."""
    found: dict[str, str] = {}
    near = float(inputs.features.neighbours[row, -1, pollutant])
    if np.isfinite(near):
        found["neighbours"] = _beside(near, one.last, one.shares.get("neighbours", 0.0))
    if not measured:
        found["own"] = "estimated, not measured"
    elif not np.isfinite(inputs.panel.values[row, :, pollutant]).any():
        found["own"] = "not measured here"
    sky = inputs.features.weather[row, -_STANDS:]
    heard = {subject for channel, subject in enumerate(SKY) if np.isfinite(sky[:, channel]).any()}
    found |= {subject: "not known here" for subject in SKY if subject not in heard}
    speeds = sky[:, _SPEED]
    now = float(speeds[np.isfinite(speeds)][-1]) if np.isfinite(speeds).any() else None
    if now is not None:
        found["wind"] = f"{now:.1f} m/s"
    if inputs.weather is not None:
        then = inputs.weather[row, LOOKBACK : LOOKBACK + REASONS_HOURS]
        _to_come(then, now, found)
    return found


def _beside(near: float, last: float, pull: float) -> str:
    """Where the neighbours' level is, apart from their pull, which is measured from an average hour."""
    apart = (near - last) / max(last, 1.0)
    if abs(apart) < _ALIKE:
        return "as here"
    level = f"{100 * abs(apart):.0f} % {'above' if apart > 0 else 'below'} here"
    return level if apart * pull > 0 else f"beside an average hour; their level now is {level}"


def _to_come(then: Float32, now: float | None, found: dict[str, str]) -> None:
    """`then` (hours, channels): the weather until the hour that is foretold."""
    speeds, rain = (then[np.isfinite(then[:, channel]), channel] for channel in (_SPEED, _RAIN))
    if len(speeds):
        least, most = float(speeds.min()), float(speeds.max())
        if now is None:
            found["wind to come"] = f"{least:.1f} to {most:.1f} m/s"
        elif max(now - least, most - now) < _STEADY:
            found["wind to come"] = f"stays near {now:.1f} m/s"
        elif now - least >= most - now:
            found["wind to come"] = f"falls to {least:.1f} m/s"
        else:
            found["wind to come"] = f"rises to {most:.1f} m/s"
    if len(rain):
        found["rain to come"] = f"{float(rain.sum()):.1f} mm"


def _short(value: float) -> float:
    return float(f"{value:.6g}")
