"""Made cities: stations that breathe one air, each with a bias and a noise of its own."""

import numpy as np

from network.members import Members, Position, Variable
from schemas.arrays import Float64
from schemas.parameters import Pollutant
from schemas.times import HOUR_MS

START_MS = 1_700_000_000_000 // HOUR_MS * HOUR_MS


def members(stations: int, pollutants: tuple[Pollutant, ...] = ("pm25", "pm10", "no2")) -> Members:
    """Stations in a row, 5 km apart."""
    variables = tuple(Variable(f"s{number:03d}", name) for number in range(stations) for name in pollutants)
    places = tuple(Position(45.0 + 0.045 * number, 9.0) for number in range(stations) for _ in pollutants)
    return Members(variables, places)


def city(of: Members, hours: int, seed: int = 1) -> Float64:
    """(hours, d) ug/m3: one weather for all, one air per pollutant, a lasting bias, some noise."""
    random = np.random.default_rng(seed)
    kinds = len(set(of.pollutants.tolist()))
    shared = _wandering(random, hours, 1) * 0.4
    each = _wandering(random, hours, kinds) * 0.25
    local = _wandering(random, hours, len(of)) * 0.12
    column = {pollutant: number for number, pollutant in enumerate(sorted(set(of.pollutants.tolist())))}
    air = shared + each[:, [column[pollutant] for pollutant in of.pollutants.tolist()]] + local
    bias = random.normal(0, 0.2, len(of))
    of_day = 0.2 * np.sin(2 * np.pi * np.arange(hours) / 24)[:, None]
    result: Float64 = np.exp(3.4 + air + bias + of_day + random.normal(0, 0.05, air.shape))
    return result


def _wandering(random: np.random.Generator, hours: int, count: int) -> Float64:
    """(hours, count) of unit size, that forgets itself in a day."""
    steps = random.normal(0, 1, (hours, count))
    walk = np.zeros((hours, count))
    for hour in range(1, hours):
        walk[hour] = 0.96 * walk[hour - 1] + 0.28 * steps[hour]
    return walk


def end(hour: int) -> int:
    """End (ms) of an hour of a city."""
    return START_MS + hour * HOUR_MS
