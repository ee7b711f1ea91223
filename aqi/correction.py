"""Corrections of raw sensor values: named, versioned algorithms whose id is stored with the corrected value.

"The EPA correction" means four different formulas in public code, fed from two different channels; so an id
says exactly which algorithm it is, and an algorithm says which channel it takes. An id never changes its
meaning.
"""

import math
import re
from collections.abc import Callable
from typing import Final, NamedTuple

from aqi.errors import CorrectionError

#: Channel of a correction that takes whichever channel its sensor's values are taken from.
ANY: Final = ""
#: Plantower's "CF=1" mass concentration, as PurpleAir reports it; not its `atm` channel.
CF_1: Final = "cf_1"


class Correction(NamedTuple):
    """A correction of one sensor: the `id` to store, the input `channel` and parameters it is for."""

    id: str
    channel: str  # empty: whichever the sensor's record names
    parameters: tuple[str, ...]  # empty: any
    needs_humidity: bool
    formula: Callable[[float, float], float]

    def apply(
        self, parameter: str, value: float, channel: str, humidity: float | None = None
    ) -> float | None:
        """The corrected value, in the unit of `value`; None where the humidity (%) it needs is not known.

        CorrectionError when `value` is of another parameter or channel than the algorithm is defined for:
        that is a mistake of configuration, and a number would come out of it.

        Examples:
            >>> round(BARKJOHN_2021.apply("pm25", 60.0, "cf_1", humidity=50.0), 2)
            32.88
            >>> BARKJOHN_2021.apply("pm25", 60.0, "cf_1") is None  # without the humidity nobody knows
            True
        """
        if self.parameters and parameter not in self.parameters:
            raise CorrectionError(f"{self.id} corrects {', '.join(self.parameters)}, not {parameter}")
        if self.channel and channel != self.channel:
            raise CorrectionError(
                f"{self.id} takes channel {self.channel!r}, got {channel!r}: "
                "send that channel or use another correction"
            )
        if not self.needs_humidity:
            return self.formula(value, math.nan)
        if humidity is None or math.isnan(humidity):
            return None
        # A saturated sensor shows more than 100 %, and noise at the dry end less than none.
        return self.formula(value, min(max(humidity, 0.0), 100.0))


IDENTITY: Final = Correction("identity", ANY, (), False, lambda value, _: value)

#: Barkjohn, Gantt, Clements 2021 (Atmos. Meas. Tech. 14, 4617, eq. 8), the US-wide correction of EPA: PM2.5
#: from the mean of a PurpleAir's two cf_1 channels and the sensor's own relative humidity. Fitted on 24-h
#: means up to 250 ug/m3; not the later piecewise version of the AirNow fire and smoke map. Not clamped at
#: zero.
BARKJOHN_2021: Final = Correction(
    "barkjohn-2021", CF_1, ("pm25",), True, lambda cf_1, humidity: 0.524 * cf_1 - 0.0862 * humidity + 5.75
)

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_LINEAR = re.compile(rf"linear:slope=({_NUMBER}),offset=({_NUMBER})")


def linear(slope: float, offset: float) -> Correction:
    """slope * value + offset, fitted for one sensor; slope and offset (ug/m3) are in the id."""
    if not (math.isfinite(slope) and math.isfinite(offset)) or slope <= 0:
        raise CorrectionError(
            f"linear correction: slope {slope} must be above zero and offset {offset} finite"
        )
    return Correction(
        f"linear:slope={slope!r},offset={offset!r}", ANY, (), False, lambda value, _: slope * value + offset
    )


def line_of(id: str) -> tuple[float, float] | None:
    """Slope and offset (ug/m3) of the correction that `id` names; None where it is no straight line."""
    if id == IDENTITY.id:
        return 1.0, 0.0
    found = _LINEAR.fullmatch(id)
    return None if found is None else (float(found[1]), float(found[2]))


def correction(id: str) -> Correction:
    """The correction that `id` names: `identity`, `barkjohn-2021` or `linear:slope=1.05,offset=-2.0`."""
    if id == IDENTITY.id:
        return IDENTITY
    if id == BARKJOHN_2021.id:
        return BARKJOHN_2021
    found = _LINEAR.fullmatch(id)
    if found:
        return linear(float(found[1]), float(found[2]))
    raise CorrectionError(
        f"no correction {id!r}: there are {IDENTITY.id}, {BARKJOHN_2021.id} "
        "and linear:slope=NUMBER,offset=NUMBER"
    )
