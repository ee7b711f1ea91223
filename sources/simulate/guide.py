"""What there is to see in the simulated city now, in a few words: nobody should have to find it out."""

from collections.abc import Mapping
from typing import Final

from camera.gate import NIGHT_ELEVATION
from schemas.base import from_ms
from schemas.times import HOUR_MS
from sources.simulate.air import smoke, sun_over
from sources.simulate.city import City
from sources.simulate.sensors import FOULED, Fault, fault

_WORDS: Final[dict[Fault, str]] = {
    "silent": "is silent; ~ marks what stands in for it",
    "fouled": f"shows {FOULED:.0f} times too much; quality control leaves it out"
    " (./skyfuse query {station} --format json: refused)",
    "stuck": "is stuck; quality control notices after some hours",
    "spike": "spikes; quality control doubts what stands out",
}
#: A fault shows when it has lasted so long: until then the last reading before it stands.
_SHOWS_MS: Final = 5 * 60_000
#: Broken sensors that are told of.
_MOST: Final = 3
#: Steps in which the next morning is looked for.
_STEP_MS: Final = 5 * 60_000


def guide(city: City, now_ms: int, shown: Mapping[str, int] | None = None) -> list[str]:
    """Lines under the table: who is a camera alone, whose sensor is broken and how that shows, nights.

    `shown`: by station the end (ms) of the window in the table, where that lags behind the present.
    """
    ends = {station.id: now_ms for station in city.stations} if shown is None else shown
    lines = [
        f"look at {station.id}: its sensor {sensor.sensor} {_WORDS[found[0]].format(station=station.id)}"
        for station in city.stations
        if station.id in ends
        for sensor in station.record.sensors
        if (found := fault(city, station, sensor.sensor, ends[station.id])) is not None
        and found[1] <= ends[station.id] - _SHOWS_MS
    ][:_MOST]
    lines += [
        f"look at {station.id}: something burns near by; its alert opens within minutes"
        f" (./skyfuse alerts explain {station.id})"
        for station in city.stations
        if station.id in ends and smoke(city, station, ends[station.id]) >= 1.0
    ][:1]
    alone = [station.id for station in city.stations if not station.record.sensors]
    lines += [
        f"look at {name}: a camera alone, it has what pictures and neighbours tell" for name in alone[:1]
    ]
    if sun_over(city, now_ms) < NIGHT_ELEVATION and any(station.has_camera for station in city.stations):
        lines.append(
            f"it is night over the simulated city: its cameras see nothing until {_morning(city, now_ms)} UTC"
            " (a new data folder, SKYFUSE_DATA_DIR, begins a city where it is day)"
        )
    return lines


def _morning(city: City, now_ms: int) -> str:
    for at_ms in range(now_ms, now_ms + 24 * HOUR_MS, _STEP_MS):
        if sun_over(city, at_ms) >= NIGHT_ELEVATION:
            return f"{from_ms(at_ms):%H:%M}"
    return "spring"
