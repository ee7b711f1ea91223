"""The settings of windows as the rules of the join."""

from schemas.times import in_ms
from settings.sections import WindowSettings
from streams.join import Rules


def join_rules(window: WindowSettings) -> Rules:
    """The join's rules in ms. State is rebuilt from the last allowed lateness of final windows."""
    lateness = in_ms(window.allowed_lateness)
    disorder = in_ms(window.disorder)
    idle = window.idle_timeout
    return Rules(
        size=in_ms(window.size),
        grace=in_ms(window.grace),
        lateness=lateness,
        disorder={"features": disorder, "readings": disorder},
        idle_timeout=None if idle is None else in_ms(idle),
        hold=lateness,
    )
