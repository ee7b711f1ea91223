"""An estimate in brief, as the API's `latest` and its stream have it. Pure."""

from collections.abc import Iterator, Mapping
from typing import Final, get_args

from schemas.base import to_ms
from schemas.estimate import Estimate
from schemas.parameters import Pollutant
from schemas.station import Station
from web.documents import IndexNow, PollutantNow, StationNow, ValueCarrier

#: Characters of a reason; the whole of it is in the estimate.
_REASON: Final = 240
#: Share of a value from which on who carries it is named.
_TELLING: Final = 0.05
#: Who carries imputed values, by what their weights, or their method, call it.
_CARRIERS: Final[Mapping[str, ValueCarrier]] = {
    "camera": "camera", "global": "camera", "head": "camera", "neighbours": "neighbours",
    "network": "neighbours", "own": "sensors", "past": "past", "last": "past",
}  # fmt: skip


def brief(estimate: Estimate) -> StationNow:
    """The station's newest window in brief."""
    block = estimate.indices[0] if estimate.indices else None
    imputed = sum(one.kind == "imputed" for one in estimate.pollutants.values())
    refused = refusals(estimate, _REASON)
    return StationNow(
        station=estimate.station,
        at=estimate.window.end,
        window_s=(to_ms(estimate.window.end) - to_ms(estimate.window.start)) // 1000,
        revision=estimate.revision,
        sides=estimate.sides,
        sources=sources(estimate),
        index=None
        if block is None
        else IndexNow(
            standard=block.standard, index=block.index, category=block.category, level=block.level,
            status=block.status, reason=block.reason[:_REASON], dominant=block.dominant, lo=block.lo,
            hi=block.hi, imputed_share=round(block.imputed_share, 3),
        ),
        pollutants={
            name: PollutantNow(
                value=round(one.value, 2), kind=one.kind, qc=one.qc,
                lo=None if one.lo is None else round(one.lo, 2),
                hi=None if one.hi is None else round(one.hi, 2), method=one.method,
            )
            for name, one in estimate.pollutants.items()
        },
        missing=tuple(estimate.missing),
        refused=refused,
        measured=len(estimate.pollutants) - imputed,
        imputed=imputed,
    )  # fmt: skip


def sources(estimate: Estimate) -> tuple[ValueCarrier, ...]:
    """Who carries a window's values: not who sent something, but of whom any of them is."""
    found: set[ValueCarrier] = set()
    for one in estimate.pollutants.values():
        if one.kind != "imputed":
            found.add("sensors")
            continue
        telling = [name for name, share in one.weights.items() if share >= _TELLING]
        found.update(_CARRIERS[name] for name in telling or [one.method] if name in _CARRIERS)
    return tuple(name for name in get_args(ValueCarrier) if name in found)


def left_out(estimate: Estimate) -> Iterator[tuple[Pollutant, str, str]]:
    """Pollutants with a sensor that was left out of them, and why."""
    for name, one in estimate.pollutants.items():
        for sensor, why in one.refused.items():
            yield name, sensor, why
    for name, lost in estimate.missing.items():
        for sensor, why in lost.refused.items():
            yield name, sensor, why


def refusals(estimate: Estimate, longest: int | None = None) -> dict[str, str]:
    """Why each sensor was left out, by pollutant and sensor: one may be left out of several, each for its own
    reason. `longest`: characters of a reason."""
    return {f"{name}/{sensor}": why[:longest] for name, sensor, why in left_out(estimate)}


def measures(station: Station) -> tuple[str, ...]:
    """What a station's sensors measure, by its record."""
    return tuple(dict.fromkeys(name for sensor in station.sensors for name in sensor.parameters))
