"""The true air of the simulated city: concentrations in ug/m3, humidity in %, temperature in Celsius."""

import math
from typing import Final

from camera.sun import solar_hour, sun_elevation
from schemas.base import from_ms
from schemas.parameters import Parameter
from schemas.times import DAY_MS, HOUR_MS, MINUTE_MS
from sources.simulate.city import City, SimulatedStation
from sources.simulate.noise import key, normal, smooth, uniform

#: An episode of bad air: in half of all stretches of this many days, 12 to 48 hours long.
_EPISODE_DAYS: Final = 5
#: Of a fire, ug/m3 of PM2.5, and since when before the city opens and for how long: the alert of a newcomer's
#: first minutes is on its way, and opens while they look.
_SMOKE: Final = 120.0
_BURNS_BEFORE_MS: Final = 5 * MINUTE_MS
_BURNS_MS: Final = 90 * MINUTE_MS


def sun_over(city: City, time_ms: int) -> float:
    """Elevation of the sun over the city, degrees."""
    return sun_elevation(time_ms, city.place.latitude, city.place.longitude)


def air(city: City, station: SimulatedStation, time_ms: int) -> dict[Parameter, float]:
    """The true air at a station.

    Particles: a city-wide background that changes over days (lognormal), is mixed down at night and up in the
    afternoon, rises in episodes, and on top of it the station's own traffic (two rush hours, weaker at the
    weekend), industry and short local events. Gases and weather follow the same day; ozone is made by the sun
    and eaten by NO.
    """
    seed = city.seed
    hours = time_ms / HOUR_MS
    hour = solar_hour(from_ms(time_ms), city.place.longitude)
    synoptic = smooth(key(seed, "synoptic"), hours / 60.0)
    daily = smooth(key(seed, "daily"), hours / 9.0)
    mixing = 1.0 + 0.35 * math.cos(2 * math.pi * (hour - 4.0) / 24.0)
    rush = _rush(time_ms, hour)
    episode = _episode(seed, time_ms)
    event = _event(station, time_ms)
    flicker = 0.05 * smooth(key(station.key, "flicker"), hours / 0.3)
    temperature = 27.0 + 6.0 * math.cos(2 * math.pi * (hour - 15.0) / 24.0) + 2.0 * synoptic + 0.7 * daily
    humidity = 64.0 - 3.0 * (temperature - 27.0) + 9.0 * smooth(key(seed, "humidity"), hours / 14.0)

    weather = math.exp(0.45 * synoptic + 0.22 * daily + flicker)
    pm25 = 18.0 * station.level * weather * mixing * episode * event * (1.0 + 0.5 * station.traffic * rush)
    pm25 += 6.0 * station.industry * math.exp(smooth(key(station.key, "plume"), hours / 2.0))
    pm25 += _SMOKE * smoke(city, station, time_ms)
    coarse = 9.0 * math.exp(0.4 * smooth(key(station.key, "dust"), hours / 4.0))
    pm10 = 1.2 * pm25 + coarse * (1.0 + 1.5 * station.traffic * rush)
    no2 = (6.0 + 50.0 * station.traffic * (0.25 + rush)) * mixing * episode**0.3
    no2 *= math.exp(0.2 * daily + 2 * flicker)
    co = 220.0 + 700.0 * station.traffic * (0.2 + rush) * mixing + 4.0 * pm25
    so2 = 2.5 + 30.0 * station.industry * max(0.0, smooth(key(station.key, "stack"), hours / 1.5)) ** 2
    # The sun of two hours ago: ozone takes its time.
    sun = max(0.0, math.sin(math.radians(sun_over(city, time_ms - 2 * HOUR_MS))))
    o3 = 28.0 + 70.0 * sun * math.exp(0.2 * synoptic) - 0.45 * no2
    return {
        "pm25": pm25,
        "pm10": pm10,
        "no2": no2,
        "so2": so2,
        "co": co,
        "o3": max(1.5, o3),
        "relativehumidity": min(97.0, max(15.0, humidity)),
        "temperature": temperature,
    }


def smoke(city: City, station: SimulatedStation, time_ms: int) -> float:
    """How much smoke of a fire near by there is, 0 to 1: it began shortly before the city is first seen."""
    if city.place.opened_ms is None or not station.smoke:
        return 0.0
    since = time_ms - (city.place.opened_ms - _BURNS_BEFORE_MS)
    return min(1.0, max(0.0, since / MINUTE_MS), max(0.0, (_BURNS_MS - since) / (15 * MINUTE_MS)))


def _rush(time_ms: int, hour: float) -> float:
    """Traffic beyond the usual: 0 at night, 1 at the height of the rush hours, half that at the weekend."""
    morning = math.exp(-(((hour - 8.0) / 1.3) ** 2) / 2)
    evening = math.exp(-(((hour - 18.2) / 1.8) ** 2) / 2)
    noon = 0.35 * math.exp(-(((hour - 13.0) / 3.5) ** 2) / 2)
    weekday = (time_ms // DAY_MS + 3) % 7  # 0 is Monday: 1970-01-01 was a Thursday
    return min(1.0, morning + evening + noon) * (0.5 if weekday >= 5 else 1.0)


def _bump(x: float) -> float:
    """0 outside (0, 1), rising smoothly to 1 in the middle."""
    return 0.5 - 0.5 * math.cos(2 * math.pi * x) if 0.0 < x < 1.0 else 0.0


def _episode(seed: int, time_ms: int) -> float:
    """Factor of a city-wide episode: 1 without one, up to 4.5."""
    stream = key(seed, "episode")
    stretch = _EPISODE_DAYS * DAY_MS
    index = time_ms // stretch
    if uniform(stream, 4 * index) > 0.5:
        return 1.0
    length = (12 + 36 * uniform(stream, 4 * index + 1)) * HOUR_MS
    start = index * stretch + uniform(stream, 4 * index + 2) * (stretch - length)
    height = 1.0 + 2.5 * uniform(stream, 4 * index + 3)
    return 1.0 + height * math.sqrt(_bump((time_ms - start) / length))


def _event(station: SimulatedStation, time_ms: int) -> float:
    """Factor of something near by, such as a bonfire: more than 1 in three of ten stretches of 8 h."""
    stream = key(station.key, "event")
    stretch = 8 * HOUR_MS
    index = time_ms // stretch
    if uniform(stream, 4 * index) > 0.3:
        return 1.0
    length = (0.5 + 1.5 * uniform(stream, 4 * index + 1)) * HOUR_MS
    start = index * stretch + uniform(stream, 4 * index + 2) * (stretch - length)
    return 1.0 + (0.4 + abs(normal(stream, 4 * index + 3))) * _bump((time_ms - start) / length)
