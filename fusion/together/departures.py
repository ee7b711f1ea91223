"""Sensors that have left their neighbours, in words: what estimates and people are told of them."""

from network.drift import Departure
from schemas.base import from_ms
from schemas.estimate import SensorDrift
from schemas.parameters import Pollutant
from schemas.times import DAY_MS


def drift_of(departure: Departure, pollutant: Pollutant) -> SensorDrift:
    """What an estimate says of a departure."""
    since = from_ms(departure.since * DAY_MS)
    return SensorDrift(
        kind=departure.kind,
        since=since,
        share=round(departure.share, 4),
        reason=f"{pollutant} {_how(departure)} since about {since:%Y-%m-%d}",
    )


def _how(departure: Departure) -> str:
    """In words, without the pollutant's name or the day."""
    share = departure.share
    off = f"{abs(share):.0%} {'more' if share > 0 else 'less'} than its neighbours let expect"
    match departure.kind:
        case "slide":
            return f"slides by {departure.per_day:+.1%} a day, and reads {off},"
        case "step":
            return f"changed at once, and reads {off},"
        case "scale":
            return f"reads {off}, at any level,"
        case "offset":
            return f"has {departure.offset:+.3g} ug/m3 added to it beside its neighbours"
        case "unit":
            return f"reads {1.0 + share:.3g} times what its neighbours let expect (is its unit right?)"
        case "stuck":
            return "stands still while its neighbours move"
