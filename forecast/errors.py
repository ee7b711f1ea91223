"""What `forecast` raises.

ForecastError └── ForecastBundleError    a forecast bundle cannot be used
"""

from schemas.errors import SkyfuseError


class ForecastError(SkyfuseError):
    """A forecast, its evaluation or its training cannot be made."""


class ForecastBundleError(ForecastError):
    """A forecast bundle cannot be used: missing or altered file, another version, broken manifest."""
