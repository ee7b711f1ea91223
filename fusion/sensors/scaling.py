"""Which of a sensor's scalings (cf_1, atm) is taken: always the same one, never their mean."""

from collections.abc import Mapping, Sequence
from typing import Final

from aqi.comparisons import channels
from aqi.correction import Correction
from aqi.flags import FAIL
from fusion.sensors.means import unjudged
from fusion.sensors.memory import SensorScale
from fusion.sensors.window import Objections, SensorWindow
from schemas.reading import scaling_of
from streams.cadences import SCALING_KEPT_MS
from streams.join import Item

#: Scalings in the order in which they are taken where nobody declares one: the only one, what a Plantower
#: says of outdoor air, what it says of the factory's aerosol.
SCALES: Final = ("value", "atm", "cf_1")


class Scalings:
    """Chooses the scalings of one window; `scales` are those that are remembered afterwards."""

    def __init__(self, window: SensorWindow, objections: Objections) -> None:
        self._window = window
        self._objections = objections
        self.scales = dict(window.memory.scales)

    def taken(
        self, sensor: str, parameter: str, rule: Correction, by_channel: Mapping[str, Sequence[Item]]
    ) -> str:
        """The scaling to take of a sensor that sends those channels."""
        if rule.channel:
            return rule.channel
        record = self._window.record(sensor, parameter)
        if record is not None and record.channel is not None:
            return scaling_of(record.channel)
        bases = {scaling_of(channel) for channel in by_channel}
        # Those that it sends in other windows count too: the log knows of them before any window is final.
        in_turns = [item.payload.scalings for items in by_channel.values() for item in items]
        sent = max(in_turns, key=len) or sorted(bases)
        best = next((name for name in SCALES if name in sent or name in bases), sent[0])
        known = self.scales.get((sensor, parameter))
        if known is not None and known.channel != best:
            rank = [*SCALES, known.channel, best]
            kept = known.channel in bases or self._window.end - known.end <= SCALING_KEPT_MS
            if kept and not rank.index(best) < rank.index(known.channel):
                best = known.channel
        if best in bases:
            self.scales[sensor, parameter] = SensorScale(best, self._window.end)
        return best

    def is_one_thing(
        self, sensor: str, parameter: str, taken: str, by_channel: Mapping[str, Sequence[Item]]
    ) -> bool:
        """Whether channels of unknown names say the same, so that it matters little which is taken."""
        record = self._window.record(sensor, parameter)
        sent = {scaling_of(channel) for channel in by_channel}
        sent.update(*(item.payload.scalings for items in by_channel.values() for item in items))
        if (record is not None and record.channel is not None) or len(sent) == 1:
            return True
        values = {
            scaling: unjudged(
                parameter,
                {name: items for name, items in by_channel.items() if scaling_of(name) == scaling},
                self._window.reference,
            ).value
            for scaling in sorted({scaling_of(channel) for channel in by_channel})
        }
        shown = ", ".join(f"{scaling} {value:.6g}" for scaling, value in values.items())
        which = f"name the one to take as `channel` of {sensor} in the station's record"
        if len(values) < len(sent) or any(
            channels(values[taken], value, self._window.limits.channels).flag == FAIL
            for value in values.values()
        ):
            names = " and ".join(sorted(sent))
            self._objections.refuse(
                parameter, sensor, f"sends {names} ({shown} ug/m3), which may be anything: {which}"
            )
            return False
        self._objections.refuse(
            parameter, f"{sensor}/{'+'.join(sorted(sent - {taken}))}", f"{taken} is taken; {which}"
        )
        return True
