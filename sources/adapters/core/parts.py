"""Parts of a payload that became no value: named, as many as there may be, and counted."""

from typing import Final, NamedTuple

from sources.adapters.core.payload import Node

#: Distinct parts that are named; the rest is counted.
MAX_NAMED: Final = 64


class Part(NamedTuple):
    """A part of the payload that became no value, or a remark. `where`: the first such place."""

    code: str
    where: str
    why: str
    times: int = 1


class Names:
    """Parts by code and path, counted; beyond `MAX_NAMED` of them only counted."""

    def __init__(self) -> None:
        self._parts: dict[tuple[str, str], list[str | int]] = {}
        self._more = 0

    def add(self, code: str, path: str, where: "Node | str", why: str) -> None:
        """One more part at `path`, which is at `where` (kept of the first)."""
        known = self._parts.get((code, path))
        if known is not None:
            known[2] += 1  # type: ignore[operator]
        elif len(self._parts) < MAX_NAMED:
            self._parts[code, path] = [where if isinstance(where, str) else where.place, why, 1]
        else:
            self._more += 1

    def parts(self) -> tuple[Part, ...]:
        """What was added, in the order in which it came first."""
        named = [
            Part(code, printable(str(where)), printable(str(why)), int(count))
            for (code, _), (where, why, count) in self._parts.items()
        ]
        if self._more:
            named.append(Part("more", "", "further parts, not named one by one", self._more))
        return tuple(named)


def printable(text: str) -> str:
    """One line of text that any terminal, header and file takes."""
    text = text[:300]
    return text if text.isprintable() else "".join(sign if sign.isprintable() else "?" for sign in text)
