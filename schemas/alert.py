"""Alerts: events of a state machine in event time, on the compacted topic aq.alerts.v1."""

from datetime import datetime
from typing import Annotated, Final, Literal, get_args

from pydantic import Field

from schemas.base import Record, StationId, UtcTime, format_time, parse_time

Severity = Literal["info", "minor", "moderate", "severe", "extreme"]
#: Rising.
SEVERITIES: Final[tuple[Severity, ...]] = get_args(Severity)


class Alert(Record):
    """One event of one alert. Kafka key: `id`, so that compaction keeps the newest state of each alert."""

    id: Annotated[str, Field(description="deterministic: station, rule and the window that opened it")]
    sequence: Annotated[int, Field(ge=0, description="0 at open, grows with each event of this alert")]
    supersedes: Annotated[str | None, Field(description="`id`/`sequence` of the event this one replaces")] = (
        None
    )
    event: Literal["open", "update", "clear", "retract"]
    station: StationId
    rule: str
    severity: Severity
    at: Annotated[UtcTime, Field(description="end of the window that caused this event")]
    since: Annotated[UtcTime, Field(description="end of the window from which the condition held")]
    reason: Annotated[str, Field(description="in words, with the numbers")]
    values: Annotated[dict[str, float], Field(description="the numbers of the reason")] = {}
    membership: Annotated[
        dict[str, float], Field(description="fuzzy membership of the categories near the value, summing to 1")
    ] = {}
    links: dict[str, str] = {}

    @property
    def opened(self) -> datetime:
        """End of the window that opened the alert, as its id has it. ValueError for an id of another form."""
        return parse_time(self.id.rpartition("/")[2])


def alert_id(station: str, rule: str, opened: datetime) -> str:
    """The id of the alert that the window which ends at `opened` opened."""
    return f"{station}/{rule}/{format_time(opened)}"
