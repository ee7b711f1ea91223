"""Channels and sensors that measure the same thing, compared: which agree, which of them is kept."""

from collections.abc import Mapping
from statistics import median
from typing import Final

from aqi.comparisons import channels
from aqi.correction import IDENTITY
from aqi.flags import CHANNELS, FAIL, STUCK, SUSPECT, Verdict, combine
from fusion.sensors.channel import COUNTED
from fusion.sensors.choice import agreeing_most, better, rounded
from fusion.sensors.declared import correction_of
from fusion.sensors.means import SensorMean, chosen, together, with_tests
from fusion.sensors.measured import Disputed, measured_of
from fusion.sensors.memory import PAST_MS
from fusion.sensors.window import Objections, SensorWindow
from schemas.times import DAY_MS, MINUTE_MS

#: For so long what was left out of two that disagreed does not count alone.
DISTRUSTED_MS: Final = DAY_MS
#: A level stands for the past when it was so long without a gap of `PAST_MS` (ms): what one of two sensors
#: showed in the minute before the other one spoke does not tell which is right.
_SETTLED_MS: Final = 15 * MINUTE_MS


class Comparison:
    """Compares the means of one window; `distrusted` is what was left out, in it or before."""

    def __init__(self, window: SensorWindow, objections: Objections) -> None:
        self._window = window
        self._objections = objections
        self.distrusted = dict(window.memory.distrusted)

    def compare(self, parameter: str, means: Mapping[str, SensorMean]) -> dict[str, SensorMean]:
        """The sensors of a pollutant that agree."""
        kept = self.agreeing(parameter, means)
        return self._alone(parameter, *next(iter(kept.items()))) if kept and len(means) == 1 else kept

    def agreeing(self, parameter: str, means: Mapping[str, SensorMean]) -> dict[str, SensorMean]:
        """Of means of the same thing, by name, those that agree; the verdicts say where any did not."""
        if len(means) < 2:
            return {name: mean for name, mean in means.items() if not self._distrusts(parameter, name, mean)}
        largest = agreeing_most(means, self._window.limits.channels)
        if len(largest) == len(means):
            for name in means:
                self.distrusted.pop((parameter, name), None)
            return dict(means)
        moving = {name: mean for name, mean in means.items() if mean.raw != 0.0}
        dead = means.keys() - moving.keys()
        if 2 * len(largest) > len(means) and not largest <= dead:
            middle = median([means[name].value for name in largest])
            for name in means.keys() - largest:
                self._distrust(
                    parameter, name, f"{rounded(means[name].value)} beside {rounded(middle)} of the others"
                )
            return {name: with_tests(means[name], CHANNELS) for name in sorted(largest)}
        if len(means) == 2:
            return self._one_of_two(parameter, means)
        if moving and dead:
            return self._beside_dead(parameter, means, moving)
        self._unsettled(parameter, means)
        return {}

    def _beside_dead(
        self, parameter: str, means: Mapping[str, SensorMean], moving: Mapping[str, SensorMean]
    ) -> dict[str, SensorMean]:
        """Of three or more, of which some show nothing at all, the others, where the past allows it."""
        dead = [mean for name, mean in means.items() if name not in moving]
        past = self._past(parameter)
        choice = better(together(dead), together(list(moving.values())), past)
        if choice.kept != 1 or (len(dead) > len(moving) and not choice.proven):
            self._unsettled(parameter, means)
            return {}
        others = " and ".join(sorted(moving))
        values = ", ".join(f"{rounded(mean.value)}" for mean in means.values())
        for name in means.keys() - moving.keys():
            self._distrust(parameter, name, f"disagrees with {others} ({values} ug/m3): {choice.ground}")
        kept = self.agreeing(parameter, moving)
        return {name: chosen(mean, choice.proven) for name, mean in kept.items()}

    def _past(self, parameter: str) -> float | None:
        """What the pollutant was lately (ug/m3), where that is known well enough to judge by."""
        level = self._window.memory.levels.get(parameter)
        if (
            level is None
            or self._window.end - level.end > PAST_MS
            or self._window.end - level.begun < _SETTLED_MS
        ):
            return None
        return level.value

    def _alone(self, parameter: str, name: str, mean: SensorMean) -> dict[str, SensorMean]:
        """The only sensor that speaks. Exactly nothing is in doubt unless the air was as clean before."""
        level = self._window.memory.levels.get(parameter)
        if mean.raw != 0.0 or parameter not in COUNTED or (
            level is not None
            and self._window.end - level.end <= PAST_MS
            and channels(0.0, level.value, self._window.limits.channels).flag != FAIL
        ):  # fmt: skip
            return {name: mean}
        if not mean.twinned:
            return {name: mean._replace(verdict=combine(mean.verdict, Verdict(SUSPECT, STUCK)))}
        self._objections.fail(parameter, name, mean, CHANNELS)
        self._objections.refuse(parameter, name, "shows nothing at all, and what measures the same is silent")
        return {}

    def _one_of_two(self, parameter: str, means: Mapping[str, SensorMean]) -> dict[str, SensorMean]:
        (first, one), (second, other) = means.items()
        choice = better(one, other, self._past(parameter))
        if choice.kept is None:
            self._unsettled(parameter, means)
            return {}
        kept, left = ((first, one), second) if choice.kept == 0 else ((second, other), first)
        values = f"{rounded(one.value)} and {rounded(other.value)} ug/m3"
        self._distrust(parameter, left, f"disagrees with {kept[0]} ({values}): {choice.ground}")
        return {kept[0]: chosen(kept[1], choice.proven)}

    def _unsettled(self, parameter: str, means: Mapping[str, SensorMean]) -> None:
        """Values disagree, and there is no ground to choose between them."""
        names = tuple(means)
        for name, mean in means.items():
            self._objections.fail(parameter, name, mean, CHANNELS)
        values = " and ".join(f"{rounded(mean.value)}" for mean in means.values())
        self._objections.refuse(
            parameter, " and ".join(names), f"disagree ({values} ug/m3), and nothing tells which is right"
        )
        # A corrected value cannot be made later, of a twin that is chosen later.
        if len(names) == 2 and (not any("/" in name for name in names) or self._plain(names[0], parameter)):
            one, other = (
                measured_of({name.partition("/")[0]: with_tests(mean, CHANNELS)}, self._window.size)
                for name, mean in means.items()
            )
            self._objections.disputed[parameter] = Disputed((names[0], names[1]), (one, other))

    def _distrust(self, parameter: str, name: str, why: str) -> None:
        self.distrusted[parameter, name] = self._window.end
        self._objections.refuse(parameter, name, why)

    def _distrusts(self, parameter: str, name: str, mean: SensorMean) -> bool:
        """Whether the only one that speaks is the one that was left out while there were two.

        Where the other one speaks, and fails because it does not move, the grounds to prefer it are gone.
        """
        last = self.distrusted.get((parameter, name))
        if last is None or self._window.end - last > DISTRUSTED_MS:
            return False
        sensor, _, channel = name.partition("/")
        stuck = {other.partition("/")[0] == sensor for of, other in self._objections.stuck if of == parameter}
        if bool(channel) in stuck and mean.raw != 0.0:
            del self.distrusted[parameter, name]
            return False
        self._objections.fail(parameter, name, mean, CHANNELS)
        self._objections.refuse(parameter, name, "was left out when there was another to compare it with")
        return True

    def _plain(self, name: str, parameter: str) -> bool:
        return correction_of(self._window.station, name.partition("/")[0], parameter) is IDENTITY
