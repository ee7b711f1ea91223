"""Who may speak for which stations. Pure, and by itself: who only looks at keys loads no more than this."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final


def _pattern(stations: Sequence[str]) -> re.Pattern[str]:
    return re.compile("|".join(re.escape(one).replace(r"\*", ".*") for one in stations) or r"(?!)")


@dataclass(frozen=True)
class KeyScope:
    """Which stations somebody may speak for: ids, and beginnings of ids with a `*` at their end."""

    stations: tuple[str, ...]
    #: Who it is, for people: the name of a key, a broker, a folder. Never a secret.
    holder: str = ""
    #: They showed no key: what is of other stations is not kept.
    keyless: bool = False
    #: The stations whose records they may list and change.
    managed: tuple[str, ...] = ()
    #: Whether somebody has made it for these stations, and so knows them; a topic names whatever it likes.
    vouched: bool = True

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        return _pattern(self.stations)

    @cached_property
    def _managed_pattern(self) -> re.Pattern[str]:
        return _pattern(self.managed)

    def manages(self, station: str) -> bool:
        """Whether they may list and change the record of `station`."""
        return self._managed_pattern.fullmatch(station) is not None

    def covers(self, station: str) -> bool:
        """Whether `station` is one of them."""
        return self._pattern.fullmatch(station) is not None

    @property
    def only(self) -> str | None:
        """The station that they speak for where nothing names one: a single one, of whoever showed a key.

        Without a key it takes no more than any sender's wrong address to be taken for that station.
        """
        if self.keyless:
            return None
        [first, *more] = self.stations or ("*",)
        return None if more or "*" in first else first


#: What the operator has set up: a folder, a camera, a cloud that is asked.
ALL_STATIONS: Final = KeyScope(("*",))
