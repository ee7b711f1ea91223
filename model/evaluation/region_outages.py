"""Who is made silent when, in a region that is replayed: kinds of outage, turns, and places that are new."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import numpy as np

from network import region as network
from network.members import Members
from schemas.arrays import Bool
from schemas.parameters import POLLUTANTS

#: Name of the kind of outage in which nobody measures a pollutant.
EVERYWHERE: Final = "one pollutant everywhere"
#: Replays of a new place, each with other stations: what one tells of a pollutant is one station's.
_PLACE_TURNS: Final = 4
#: Of many stations, one in so many is new at a time.
_NEW_OF: Final = 10
#: Outages after which those are heard that were silent.
_RESTING: Final = 4
_DAY: Final = 24
#: Hours, at most, in which a region is whole between two outages of a whole pollutant.
_PAUSE: Final = 168


class OutageKind(NamedTuple):
    """A kind of outage.

    Attributes:
        turns: how many take turns.
        silenced: which variables (d,) the outage of a number silences.
        pause: for how many hours at most, as long as one lasts, all are heard between two.
        replays: how many make up for the hours that are paused, each begun by another turn.
    """

    turns: int
    silenced: Callable[[int], Bool]
    pause: int = 0
    replays: int = 1


def outage_kinds(members: Members, tested: Sequence[str]) -> dict[str, OutageKind]:
    """The kinds of outage that a region can have, by name."""
    d = len(members)
    table = members.table[[members.stations.index(station) for station in tested]]
    pollutants = [number for number in range(len(POLLUTANTS)) if (table[:, number] >= 0).any()]
    queue = [
        int(table[station, pollutants[(turn + station) % len(pollutants)]])
        for turn in range(len(pollutants))
        for station in range(len(tested))
    ]
    queue = [one for one in queue if one >= 0]

    def chosen(variables: Sequence[int]) -> Bool:
        mask = np.zeros(d, dtype=np.bool_)
        mask[list(variables)] = True
        return mask

    if len(pollutants) > 1:
        at_once = max(1, len(tested) // 4, min(len(pollutants), len(tested) // 2))
    else:  # of a large region, most of which is not tested, all that are: outages of days are few
        at_once = len(tested) if len(members) > network.WHOLE else max(1, len(tested) // 8)
    found = {
        "one sensor": OutageKind(
            len(queue) // at_once,
            lambda n: chosen([queue[(n * at_once + i) % len(queue)] for i in range(at_once)]),
        )
    }
    optical = table[:, [POLLUTANTS.index("pm25"), POLLUTANTS.index("pm10")]]
    optical = optical[(optical >= 0).all(axis=1)]
    if len(optical):
        found["both PM of a station"] = OutageKind(
            len(optical), lambda n: chosen(optical[n % len(optical)].tolist())
        )
    if len(pollutants) > 1:
        found["whole station"] = OutageKind(
            len(tested), lambda n: chosen([v for v in table[n % len(tested)].tolist() if v >= 0])
        )
        if len(members.stations) > 1:
            found[EVERYWHERE] = OutageKind(
                len(pollutants),
                lambda n: members.pollutants == pollutants[n % len(pollutants)],
                pause=_PAUSE,
                replays=2,
            )
    if len(members.stations) > 1:
        found["half of all at random"] = OutageKind(
            _RESTING, lambda n: np.random.default_rng(n).random(d) < 0.5
        )
    return found


def _round(turns: int, each: int, length: int) -> int:
    """Hours of a round of outages of `length` hours, one in `each`; after its `turns` first all are heard.

    Where few take turns all are heard between rounds, or nothing would be learned. And the day must not
    be in step with them: who is silent at the same hours of each day is never heard at these.
    """
    found = max(turns, _RESTING) * each
    while math.gcd(found, _DAY) != math.gcd(length, _DAY):
        found += length
    return found


def rotating(kind: OutageKind, hours: int, begin: int, length: int) -> list[Bool]:
    """For each replay (hours, d) who is silent when: one outage after the other from `begin` on."""
    each = length + min(length, kind.pause)
    masks = []
    for replay in range(kind.replays):
        mask = np.zeros((hours, len(kind.silenced(0))), dtype=np.bool_)
        rounds = range(begin, hours, _round(kind.turns, each, length))
        for number, (start, turn) in enumerate(itertools.product(rounds, range(kind.turns))):
            first = start + turn * each
            mask[first : first + length] = kind.silenced(number + replay * kind.turns // kind.replays)
        masks.append(mask)
    return masks


def new_by_turns(members: Members, tested: Sequence[str], hours: int, begin: int, age: int) -> list[Bool]:
    """For each replay (hours, d) who is silent when, where some are new: never heard, but for `age` hours
    before `begin`."""
    masks = []
    for columns in _places(members, tested):
        mask = np.zeros((hours, len(members)), dtype=np.bool_)
        mask[:, columns] = True
        mask[begin - age : begin, columns] = False
        masks.append(mask)
    return masks


def _places(members: Members, tested: Sequence[str]) -> list[Bool]:
    """By turns, which are never heard (d,): each pollutant at one station, of many at every tenth; of a large
    region all that are tested at once, for each has a cell of its own."""
    if len(members.stations) < 2:
        return []
    turns = [np.zeros(len(members), dtype=np.bool_) for _ in range(_PLACE_TURNS)]
    for number in range(len(POLLUTANTS)):
        column = members.table[[members.stations.index(station) for station in tested], number]
        having = column[column >= 0]
        if len(having) < 2:
            continue
        if len(members) > network.WHOLE:
            turns[0][having] = True
            continue
        apart = min(len(having), _NEW_OF)
        for turn in range(min(_PLACE_TURNS, apart)):
            first = (number + turn * apart // min(_PLACE_TURNS, apart)) % apart
            turns[turn][having[first::_NEW_OF]] = True
    return [columns for columns in turns if columns.any()]
