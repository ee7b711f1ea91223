"""What is stored of a station's alerts, and the readers of what earlier versions stored (`schemas.state`)."""

from typing import Any, Final

from alerting.station import StationAlerts
from schemas.state import Codec


def alerts_of_version_1(plain: Any) -> Any:
    """JSON to version 6. Infinite evidence was "inf" or "-inf", an episode the list of its entries."""
    return {
        "station": plain["station"],
        "folded": plain["folded"],
        "watermark": plain["watermark"],
        "due": plain["due"],
        "windows": [
            [end, size, revision, {name: _evidence_1(one) for name, one in evidence.items()}]
            for end, size, revision, evidence in plain["windows"]
        ],
        "rules": {
            name: {
                "digest": rule["digest"],
                "base": rule["base"]
                | {"episode": rule["base"]["episode"] and {"entries": _entries_1(rule["base"]["episode"])}},
                "told": [[opened, [number, _entries_1(entries)]] for opened, number, entries in rule["told"]],
            }
            for name, rule in plain["rules"].items()
        },
    }


def _evidence_1(evidence: Any) -> Any:
    return evidence if isinstance(evidence, str) else [float(number) for number in evidence]


def _entries_1(entries: Any) -> Any:
    return [[event, at, since, level, _evidence_1(numbers)] for event, at, since, level, numbers in entries]


#: Before a station's id, under which what rules about forecasts remember of it is stored: no id has a slash.
FORESEEN: Final = "forecast/"
ALERTS = Codec("state of a station's alerts", StationAlerts, {1: alerts_of_version_1})


def read(_station: str, data: bytes) -> StationAlerts:
    """The state in a station's record. Raises StateError."""
    return ALERTS.decode(data)
