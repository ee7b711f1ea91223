"""Where rows lie, file and line: on a record that was made of them, and in words."""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

_LINE: Final = re.compile(r"(.*?)(\d*)", re.DOTALL)


def _split(place: str) -> tuple[str, int | None]:
    """`readings.csv:` and 17; a place that does not end in a number is all text."""
    found = _LINE.fullmatch(place)
    assert found is not None
    return (found[1], int(found[2])) if found[2] else (place, None)


def origin_text(places: Iterable[str]) -> str:
    """Places of the rows of one message as text: JSON, the lines under their file."""
    lines: dict[str, list[int | None]] = {}
    for place in places:
        file, line = _split(place)
        lines.setdefault(file, []).append(line)
    return json.dumps(lines, ensure_ascii=False, separators=(",", ":"))


def origin_places(text: str) -> list[str]:
    """Inverse of `origin_text`, where the rows of a file stood together. Raises ValueError."""
    lines = json.loads(text)
    if not isinstance(lines, dict):
        raise ValueError(f"{text[:80]!r} names no places")
    return [file if line is None else f"{file}{line}" for file, numbers in lines.items() for line in numbers]


class Places:
    """Very many places, few of them kept in words."""

    #: Beyond so many, they are only counted.
    MOST: Final = 100_000

    def __init__(self) -> None:
        self._lines: defaultdict[str, list[int]] = defaultdict(list)
        self._whole: dict[str, None] = {}
        self.count = 0

    def add(self, place: str) -> None:
        """One more row."""
        self.count += 1
        if self.count > self.MOST:
            return
        file, line = _split(place)
        if line is None:
            self._whole[place] = None
        else:
            self._lines[file].append(line)

    def text(self, most: int = 40) -> str:
        """The places, lines in a row as one: `readings.csv:2-691, 700`; `most` such parts."""
        parts = [*self._whole]
        for file, lines in self._lines.items():
            spans = list(_spans(sorted(lines)))
            for number, (first, last) in enumerate(spans):
                span = f"{first}" if first == last else f"{first}-{last}"
                parts.append(span if number else f"{file}{span}")
        more = "" if len(parts) <= most and self.count <= self.MOST else ", and more"
        return ", ".join(parts[:most]) + more


def _spans(lines: Sequence[int]) -> Iterator[tuple[int, int]]:
    first = last = lines[0]
    for line in lines[1:]:
        if line > last + 1:
            yield first, last
            first = line
        last = line
    yield first, last
