"""Where the sun is: how high it stands over a camera, and the hour of the day that it makes. Pure."""

import math
from datetime import datetime, timedelta

from schemas.times import DAY_MS

__all__ = ["solar_hour", "sun_elevation"]


def solar_hour(time: datetime, longitude: float | None) -> float:
    """Local mean solar hour [0, 24) of an aware `time` at `longitude` (degrees east); NaN without one.

    UTC plus longitude / 15: the same meaning everywhere, without a time-zone table.
    """
    if longitude is None:
        return math.nan
    offset = time.utcoffset()
    if offset is None:
        raise ValueError("solar_hour needs a timezone-aware time")
    utc = time.replace(tzinfo=None) - offset
    midnight = utc.replace(hour=0, minute=0, second=0, microsecond=0)
    hour = ((utc - midnight) / timedelta(hours=1) + longitude / 15.0) % 24.0
    # A tiny negative number modulo 24 rounds to 24 itself.
    return hour if hour < 24.0 else 0.0


def sun_elevation(at_ms: int, latitude: float, longitude: float) -> float:
    """Elevation of the sun's centre above the horizon, degrees, without refraction.

    NOAA's solar calculator (after Meeus, Astronomical Algorithms, chapter 25): good to 0.02 degrees
    from 1900 to 2100.

    Args:
        at_ms: ms since the epoch, UTC.
        latitude: degrees, north positive.
        longitude: degrees, east positive.
    """
    century = (at_ms / DAY_MS - 10_957.5) / 36_525.0  # Julian centuries since 2000-01-01 12:00
    mean_longitude = math.radians((280.46646 + century * (36_000.76983 + century * 0.0003032)) % 360.0)
    anomaly = math.radians(357.52911 + century * (35_999.05029 - 0.0001537 * century))
    eccentricity = 0.016708634 - century * (0.000042037 + 0.0000001267 * century)
    centre = math.radians(
        math.sin(anomaly) * (1.914602 - century * (0.004817 + 0.000014 * century))
        + math.sin(2.0 * anomaly) * (0.019993 - 0.000101 * century)
        + math.sin(3.0 * anomaly) * 0.000289
    )
    node = math.radians(125.04 - 1934.136 * century)
    apparent = mean_longitude + centre - math.radians(0.00569 + 0.00478 * math.sin(node))
    obliquity = math.radians(
        23.439291111
        - century * (0.013004167 + century * (1.64e-7 - century * 5.04e-7))
        + 0.00256 * math.cos(node)
    )
    declination = math.asin(math.sin(obliquity) * math.sin(apparent))
    y = math.tan(obliquity / 2.0) ** 2
    equation_of_time = 4.0 * math.degrees(
        y * math.sin(2.0 * mean_longitude)
        - 2.0 * eccentricity * math.sin(anomaly)
        + 4.0 * eccentricity * y * math.sin(anomaly) * math.cos(2.0 * mean_longitude)
        - 0.5 * y * y * math.sin(4.0 * mean_longitude)
        - 1.25 * eccentricity * eccentricity * math.sin(2.0 * anomaly)
    )
    solar_minutes = (at_ms / 60_000.0 + equation_of_time + 4.0 * longitude) % 1440.0
    hour_angle = math.radians(solar_minutes / 4.0 - 180.0)
    at = math.radians(latitude)
    sine = math.sin(at) * math.sin(declination) + math.cos(at) * math.cos(declination) * math.cos(hour_angle)
    return math.degrees(math.asin(max(-1.0, min(1.0, sine))))
