"""Which means count, and so what may lead an index (docs/aqi.md has the reasons).

1. What a station never measured is imputed from nothing of its own: it is shown as a sub-index, but does not
   count beside anything that was measured in the hours of the means. Where nothing was, all is imputed: then
   what the station has measured once counts, and the rest where its whole interval lies above the upper ends
   of that; at a station that never measured anything, everything counts.
2. An imputed mean counts beside a *valid* one (complete and measured) only where its whole interval lies
   above that: where the index of its lower end is the higher one.
3. The index is the highest sub-index among the valid means, when those satisfy what the standard asks for and
   nothing else that counts stands above them. Otherwise all that counts does, and the result is `indicative`,
   or `insufficient` when the highest of them rests on fragments. Its reason says why.
"""

from collections.abc import Collection
from typing import Final, NamedTuple

from aqi.averaging import INDICATIVE, INSUFFICIENT, VALID
from aqi.standards import Requirement, Standard
from aqi.subindex import MUTE, Found, SubIndex
from schemas.estimate import Status


class Grounds(NamedTuple):
    """What a station measured: which pollutants ever, and which of them in the hours that means are of."""

    ever: Collection[str]
    lately: Collection[str]


class Choice(NamedTuple):
    """What of a station's means makes its index."""

    means: Found  # those that count
    status: Status
    need: Requirement
    lacking: str  # of it, by the valid means; empty when nothing
    counted: tuple[SubIndex, ...]  # one per pollutant that counts, the highest of its means
    shown: tuple[SubIndex, ...]  # one per pollutant, in the order of the tables
    left_out: tuple[str, ...]  # in words
    leading: tuple[str, ...]  # the pollutants that make the index; none where there is none


def choose(
    standard: Standard,
    found: Found,
    grounds: Grounds,
    site: str | None,
    always: Collection[str] = (),
) -> Choice:
    """Which means count, by the rules above; those of the pollutants in `always` need not be surely above."""
    pool = _own(found, grounds)
    valid = [sub for sub in pool if sub.status == "valid"]
    top = max([sub.index for sub in valid], default=MUTE)
    others = [
        sub
        for sub in pool
        if sub.status != "valid"
        and (not valid or not sub.imputed_share or sub.parameter in always or low_of(sub) > top)
    ]
    need = standard.requires(site)
    lacking = need.lacking(list({sub.parameter: None for sub in valid}))
    # What is known least must not hide the worst: an hour of clean NO2 says nothing of the PM2.5 that has no
    # complete day yet. So where an incomplete mean is above, everything counts, and the status says how much
    # that is worth.
    met = not lacking and bool(valid) and all(sub.index <= top for sub in others)
    counting = valid if met else valid + others
    best = _highest(counting)
    counted, shown, left_out, unasked = [], [], [], []
    for parameter, sub in _highest(found).items():
        if parameter in best:
            counted.append(best[parameter])
            shown.append(best[parameter])
            continue
        shown.append(sub)
        if parameter not in grounds.ever:
            unasked.append(f"{parameter} {sub.index}")
        else:
            span = "" if sub.lo is None else f", {sub.lo} to {sub.hi}"
            left_out.append(f"{parameter} {sub.index} ({sub.reason}{span})")
    if unasked:
        left_out.append(f"{', '.join(unasked)} (never measured here)")
    highest = max([sub.index for sub in counted], default=MUTE)
    leading = [sub for sub in counted if sub.index == highest]
    status: Status = "valid"
    if not met:
        shaky = not leading or "insufficient" in [sub.status for sub in leading]
        status = "insufficient" if shaky else "indicative"
    return Choice(
        counting, status, need, lacking, tuple(counted), tuple(shown), tuple(left_out),
        tuple([sub.parameter for sub in leading]),
    )  # fmt: skip


def _highest(means: Found) -> dict[str, SubIndex]:
    """Per pollutant the highest sub-index of its means, of equal ones the best founded."""
    found: dict[str, SubIndex] = {}
    for sub in means:
        other = found.get(sub.parameter)
        if sub.index != MUTE and (
            other is None or (sub.index, _GRADE[sub.status]) > (other.index, _GRADE[other.status])
        ):
            found[sub.parameter] = sub
    return found


def _own(found: Found, grounds: Grounds) -> Found:
    """The means that rest on something of the station's own, where there are any; rule 1."""
    own = [sub for sub in found if sub.parameter in grounds.ever]
    if grounds.lately or len(own) == len(found):
        return own
    if not own:
        return found
    bound = max([sub.index if sub.hi is None else sub.hi for sub in own])
    return [sub for sub in found if sub.parameter in grounds.ever or low_of(sub) > bound]


def low_of(sub: SubIndex) -> int:
    return sub.index if sub.lo is None else sub.lo


_GRADE: Final[dict[str, int]] = {"valid": VALID, "indicative": INDICATIVE, "insufficient": INSUFFICIENT}
