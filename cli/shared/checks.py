"""What `skyfuse doctor` finds: whether the network stage takes part where it has to, and whom it names."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Literal

from cli.shared.wording import counted
from schemas.estimate import Estimate
from settings.sections import Settings

State = Literal["ok", "note", "bad"]
#: A station whose newest window is older than others' by this says nothing of now.
_OF_NOW: Final = timedelta(days=1)
#: Sensors that are named one by one.
_SHOWN: Final = 5


@dataclass(frozen=True, slots=True)
class Check:
    """One finding."""

    what: str
    state: State
    found: str
    mend: str = ""


def as_up_runs_it(settings: Settings) -> Settings:
    """Settings as `skyfuse up` runs them: with the network stage, unless they say no or name a broker.

    Beside a broker of one's own other workers may run, which would have to be told, too.
    """
    if settings.kafka.bootstrap is not None or "enabled" in settings.network.model_fields_set:
        return settings
    return settings.model_copy(update={"network": settings.network.model_copy(update={"enabled": True})})


def network_stage(enabled: bool, members: Mapping[str, int]) -> Check:
    """Whether a worker `network` takes part where, and only where, estimates go through it.

    `members`: by role, workers that take part now.
    """
    working, fusing = members.get("network", 0), members.get("fusion", 0)
    if enabled and fusing and not working:
        return Check(
            "network stage", "bad", "network.enabled is set, and no worker `network` takes part",
            "no station publishes anything until one does: start `skyfuse worker network`"
            " (compose: --profile network), or set network.enabled to false for all workers",
        )  # fmt: skip
    if working and not enabled:
        return Check(
            "network stage", "bad",
            f"{counted(working, 'worker')} `network` takes part, but network.enabled is not set here",
            "where fusion has the same settings nothing comes to it, and stations fill no gaps of each other:"
            " set network.enabled (SKYFUSE_NETWORK__ENABLED=true) for all workers, or end it",
        )  # fmt: skip
    if not enabled:
        return Check("network stage", "ok", "off: each station speaks for itself (network.enabled)")
    if not working:
        return Check("network stage", "ok", "on; no worker runs now")
    return Check("network stage", "ok", f"on, {counted(working, 'worker')}")


def drifting_sensors(latest: Sequence[Estimate]) -> list[Check]:
    """Sensors that have left their neighbours by `latest`, the newest window of each station.

    Nothing where no region watches any.
    """
    newest = max((one.window.end for one in latest), default=None)
    watched = [
        one
        for one in latest
        if one.drift is not None and newest is not None and newest - one.window.end < _OF_NOW
    ]
    if not watched:
        return []
    left = {one.station: one.drift for one in watched if one.drift}
    if not left:
        words = f"none of {counted(len(watched), 'station')} has left its neighbours"
        return [Check("sensors", "ok", words)]
    told = [f"{name}: {found.reason}" for name, of_it in left.items() for found in of_it.values()]
    more = f"; and {len(told) - _SHOWN} more" if len(told) > _SHOWN else ""
    note = Check(
        "sensors", "note",
        f"{counted(len(told), 'sensor')} of {counted(len(left), 'station')} away from the neighbours: "
        + "; ".join(told[:_SHOWN]) + more,
        f"`skyfuse calibration suggest {next(iter(left))}` says what would take one back, if it is not to be"
        " replaced; its neighbours do not listen to it meanwhile",
    )  # fmt: skip
    return [note]
