"""The limits and rules of quality control that come with the package (quality.toml, sensors.toml)."""

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import NamedTuple

from aqi.comparisons import ChannelRule, NeighbourRule, ParticleRule
from aqi.limits import Limits, limits_from
from aqi.unit_doubt import UnitRule


class Defaults(NamedTuple):
    """The limits that come with the package."""

    limits: Mapping[str, Limits]
    channels: ChannelRule
    neighbours: NeighbourRule
    particles: ParticleRule
    units: tuple[UnitRule, ...]
    #: Age in seconds up to which a humidity serves a correction.
    humidity_s: int
    #: Per type of sensor (`any`: every one) and parameter, the numbers that mean no value, as it sends them.
    fill_values: Mapping[str, Mapping[str, tuple[float, ...]]]


@cache
def defaults() -> Defaults:
    """Limits per pollutant and the rules of the other tests (quality.toml), fill values (sensors.toml)."""
    data, sensors = (
        tomllib.loads(resources.files("aqi").joinpath(name).read_text(encoding="utf-8"))
        for name in ("quality.toml", "sensors.toml")
    )
    pair, around, size, humidity = (
        data.pop(name) for name in ("channels", "neighbours", "particles", "humidity")
    )
    units = tuple(UnitRule(**rule) for rule in data.pop("unit"))
    return Defaults(
        {
            parameter: limits_from(table, f"aqi/quality.toml: [{parameter}]")
            for parameter, table in data.items()
        },
        ChannelRule(**pair),
        NeighbourRule(**around),
        ParticleRule(**size),
        units,
        humidity["age_s"],
        {
            model: {parameter: tuple(numbers) for parameter, numbers in table.items()}
            for model, table in sensors.items()
        },
    )
