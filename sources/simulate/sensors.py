"""What the sensors say of the simulated air: biased, drifting, noisy, sometimes stuck or silent."""

import math
from typing import Final, Literal, NamedTuple

from schemas.parameters import Parameter
from schemas.times import HOUR_MS
from sources.simulate.air import air
from sources.simulate.city import City, SimulatedStation
from sources.simulate.noise import key, normal, uniform

Fault = Literal["silent", "stuck", "spike", "fouled"]
#: Noise of one value: relative to it, and absolute in the parameter's unit.
_NOISE: Final[dict[Parameter, tuple[float, float]]] = {
    "pm25": (0.06, 0.8),
    "pm10": (0.08, 1.5),
    "no2": (0.05, 1.5),
    "so2": (0.06, 1.0),
    "co": (0.04, 25.0),
    "o3": (0.05, 2.0),
    "relativehumidity": (0.0, 1.0),
    "temperature": (0.0, 0.2),
}
_WEATHER: Final = ("relativehumidity", "temperature")
#: In each stretch of this length a sensor may have one fault.
_STRETCH_MS: Final = 2 * HOUR_MS
#: Share of stretches with each fault, and how long it lasts, in hours.
_FAULTS: Final[tuple[tuple[Fault, float, float, float], ...]] = (
    ("silent", 0.10, 0.1, 1.0),
    ("stuck", 0.07, 0.4, 1.5),
    ("spike", 0.08, 0.004, 0.012),
)
#: What a newcomer is to see at once. From so long before the city opens until so long after:
_STANDING_MS: Final[dict[Fault, int]] = {"silent": 20 * 60_000, "fouled": 40 * 60_000}
_STANDING_UNTIL_MS: Final = 8 * HOUR_MS
#: Until so long after nothing else fails.
_QUIET_MS: Final = 2 * HOUR_MS
#: How much too much a fouled sensor shows.
FOULED: Final = 4.0
#: Single values that get lost on the way.
_LOST: Final = 0.01
_MONTH_MS: Final = 30 * 24 * HOUR_MS


class SimulatedValue(NamedTuple):
    """One value as the sensor sends it."""

    sensor: str
    parameter: Parameter
    value: float


def unit_of(parameter: Parameter) -> str:
    """The unit in which the simulated sensors report."""
    return {"relativehumidity": "%", "temperature": "Cel"}.get(parameter, "ug/m3")


def fault(city: City, station: SimulatedStation, sensor: str, time_ms: int) -> tuple[Fault, int] | None:
    """The fault a sensor has at a time, with the time (ms) it began; None where it has none."""
    opened = city.place.opened_ms
    if opened is not None:
        standing: tuple[tuple[Fault, str | None], ...] = (
            ("silent", station.silent),
            ("fouled", station.fouled),
        )
        for name, failing in standing:
            start = opened - _STANDING_MS[name]
            if sensor == failing and start <= time_ms < opened + _STANDING_UNTIL_MS:
                return name, start
        if time_ms < opened + _QUIET_MS:
            return None
    stream = key(city.seed, station.id, "fault", sensor)
    index = time_ms // _STRETCH_MS
    draw = uniform(stream, 4 * index)
    for name, share, shortest, longest in _FAULTS:
        if draw < share:
            length = (shortest + (longest - shortest) * uniform(stream, 4 * index + 1)) * HOUR_MS
            start = int(index * _STRETCH_MS + uniform(stream, 4 * index + 2) * (_STRETCH_MS - length))
            return (name, start) if start <= time_ms < start + length else None
        draw -= share
    return None


def measured(city: City, station: SimulatedStation, time_ms: int) -> list[SimulatedValue]:
    """All values a station sends at a time; empty when everything is silent."""
    values = []
    truth = air(city, station, time_ms) if station.record.sensors else {}
    for sensor in station.record.sensors:
        found = fault(city, station, sensor.sensor, time_ms)
        if found is not None and found[0] == "silent":
            continue
        seen_ms, seen = time_ms, truth
        if found is not None and found[0] == "stuck":
            seen_ms, seen = found[1], air(city, station, found[1])
        for parameter in sensor.parameters:
            if uniform(key(station.key, "lost", parameter), time_ms) < _LOST:
                continue
            value = _indicated(city, station, sensor.sensor, parameter, seen, seen_ms)
            if found is not None and found[0] == "spike" and parameter not in _WEATHER:
                value *= 5.0 + 20.0 * uniform(key(station.key, "spike", parameter), found[1])
            if found is not None and found[0] == "fouled":
                value *= FOULED
            values.append(SimulatedValue(sensor.sensor, parameter, value))
    return values


def _indicated(
    city: City,
    station: SimulatedStation,
    sensor: str,
    parameter: Parameter,
    truth: dict[Parameter, float],
    time_ms: int,
) -> float:
    stream = key(city.seed, station.id, sensor, parameter)
    relative, absolute = _NOISE[parameter]
    value = truth[parameter]
    if parameter not in _WEATHER:
        value *= math.exp(0.06 * normal(stream, 0))  # how well it was calibrated
        value *= 1.0 + 0.03 * normal(stream, 1) * math.sin(2 * math.pi * time_ms / _MONTH_MS)  # drift
        if parameter in ("pm25", "pm10"):
            # Optical particle sensors take water for dust: a well known fault above 70 % humidity.
            value *= 1.0 + 0.012 * max(0.0, truth["relativehumidity"] - 70.0)
    noise = key(stream, "noise")
    value += (relative * value) * normal(noise, 2 * time_ms) + absolute * normal(noise, 2 * time_ms + 1)
    if parameter == "relativehumidity":
        return round(min(100.0, max(0.0, value)), 1)
    return round(value if parameter == "temperature" else max(0.0, value), 2)
