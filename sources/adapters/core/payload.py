"""A payload's parts, and which of them somebody has read.

Whatever an adapter takes is gone from the payload; what is still there when it is done is named. So
nothing that a device sends is dropped silently, however little the adapter's author knew of it.
"""

import csv
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, Literal, NamedTuple

from schemas.errors import Refused


class _Gone:
    """In the place of what was taken."""


_GONE: Final = _Gone()


class _Twice:
    """In the place of what an object states twice, and not alike: nobody knows which counts."""


_TWICE: Final = _Twice()
#: What the rows of a table are called.
LINE: Final = "line"
#: Digits of a whole number that Python still reads.
_MOST_DIGITS: Final = 4_300
Scalar = str | int | float | bool | None


class Node:
    """A part of a payload by its place; a part that is not there is a node too, and false."""

    __slots__ = ("_holder", "_key", "_label", "_name", "_parent")

    def __init__(self, holder: Any, key: Any, parent: "Node | None" = None, name: str | None = None) -> None:
        self._holder = holder
        self._key = key
        self._parent = parent
        self._name = name
        self._label = ""

    @classmethod
    def root(cls, value: Any, name: str = "") -> "Node":
        """The whole payload."""
        return cls([value], 0, None, name)

    @property
    def _value(self) -> Any:
        try:
            return self._holder[self._key]
        except (LookupError, TypeError):
            return _GONE

    def __bool__(self) -> bool:
        return self._value is not _GONE

    def __getitem__(self, key: str) -> "Node":
        inside = self._value
        return Node(inside if isinstance(inside, dict) else {}, key, self)

    def items(self) -> Iterator[tuple[str, "Node"]]:
        """The members of an object; none of anything else."""
        inside = self._value
        if isinstance(inside, dict):
            for key in list(inside):
                if inside[key] is not _GONE:
                    yield key, Node(inside, key, self)

    def each(self) -> Iterator["Node"]:
        """The elements of a list; none of anything else."""
        inside = self._value
        if isinstance(inside, list):
            for index in range(len(inside)):
                if inside[index] is not _GONE:
                    yield Node(inside, index, self)

    def one_or_each(self) -> Iterator["Node"]:
        """The elements of a list; anything else itself."""
        if isinstance(self._value, list):
            yield from self.each()
        elif self:
            yield self

    def is_object(self) -> bool:
        """Whether it has members."""
        return isinstance(self._value, dict)

    def peek(self) -> Scalar:
        """The text, number or truth value, which stays where it is; None of anything else."""
        value = self._value
        return value if isinstance(value, str | int | float | bool) else None

    def is_twice(self) -> bool:
        """Whether its object states it twice, and not alike. It reads like null."""
        return self._value is _TWICE

    def twice(self) -> list[str]:
        """The members that an object states twice, and not alike."""
        inside = self._value
        return [key for key, value in inside.items() if value is _TWICE] if isinstance(inside, dict) else []

    def take(self) -> Scalar:
        """The text, number, truth value or null, which is read now. What has parts is not taken: None."""
        value = self._value
        if value is _TWICE:
            self._holder[self._key] = _GONE
            return None
        if value is None or isinstance(value, str | int | float | bool):
            self._holder[self._key] = _GONE
            return value
        return None

    def grab(self) -> Any:
        """What it is with all its parts, taken from here; None where it is not there."""
        value = self._value
        self.drop()
        return None if value is _GONE or value is _TWICE else value

    def text(self) -> str:
        """A name or id as text, taken; empty where there is none."""
        value = self.take()
        if isinstance(value, bool) or value is None:
            return ""
        return value.strip() if isinstance(value, str) else f"{value}"

    def put(self, value: Any) -> "Node":
        """The same place with `value`, for text that holds parts of its own."""
        self._holder[self._key] = value
        return self

    def drop(self) -> None:
        """Take it with all its parts."""
        if self:
            self._holder[self._key] = _GONE

    def called(self, name: str) -> "Node":
        """The same part, named: of pairs of names and values all values have one path."""
        if self._key == name:
            return self
        named = Node(self._holder, self._key, self._parent, self._name)
        named._label = f" ({name[:64]})"
        return named

    @property
    def path(self) -> str:
        """Where it is, without the indices of lists: `data[].sensors[].value`."""
        return self._path("[]")

    @property
    def place(self) -> str:
        """Where it is: `data[3].sensors[0].value`."""
        return self._path(None)

    def _path(self, index: str | None) -> str:
        parts: list[str] = []
        node: Node | None = self
        while node is not None:
            if node._name is not None:
                parts.append(node._name)
            elif isinstance(node._key, int):
                # The lines of a table are counted from one.
                first = node._parent is not None and node._parent._name == LINE
                parts.append(index or f"[{node._key + first}]")
            else:
                parts.append(f".{node._key:.64}")
            node = node._parent
        return "".join(reversed(parts)).lstrip(".") + self._label

    def rest(self) -> Iterator["LeftPart"]:
        """What is left of it; objects and lists come before what is in them.

        Whoever drops a part is not led into it. Nulls and what is empty have nothing to lose.
        """
        inside = [iter([LeftPart(self, self._name or "", 0)] if self else [])]
        while inside:
            found = next(inside[-1], None)
            if found is None:
                inside.pop()
                continue
            yield found
            node, path, depth = found
            value = node._value
            if isinstance(value, dict):
                inside.append(_members(value.items(), value, node, path, depth + 1))
            elif isinstance(value, list):
                inside.append(_members(enumerate(value), value, node, path, depth + 1))

    def has_parts(self) -> bool:
        """Whether it is an object or a list."""
        return isinstance(self._value, dict | list)


class LeftPart(NamedTuple):
    """A part that nobody took: its path without indices, and how deep it lies."""

    node: Node
    path: str
    depth: int


def _members(
    found: Iterable[tuple[Any, Any]], holder: Any, parent: Node, path: str, depth: int
) -> Iterator[LeftPart]:
    for key, value in found:
        if value is _GONE or value is _TWICE or value is None or value == "":
            continue
        here = f"{path}[]" if isinstance(key, int) else f"{path}.{key:.64}" if path else f"{key:.64}"
        yield LeftPart(Node(holder, key, parent), here, depth)


class PayloadText(NamedTuple):
    """A payload's text, and whether it had to be read as Latin-1: many exports are."""

    text: str
    latin: bool


def decoded(data: bytes) -> PayloadText:
    """The text of a payload. Raises Refused."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        try:
            return PayloadText(data.decode("utf-16"), latin=False)
        except UnicodeDecodeError as error:
            raise Refused("not_text", f"it begins as UTF-16 and is not: {error.reason}") from error
    try:
        return PayloadText(data.decode("utf-8-sig"), latin=False)
    except UnicodeDecodeError:
        return PayloadText(data.decode("latin-1"), latin=True)


class JsonDocument(NamedTuple):
    """A JSON document, and the keys that an object of it has twice with different values (`is_twice`)."""

    value: Any
    twice: list[str]


def parsed_json(text: str) -> JsonDocument:
    """The document in a text. Raises Refused."""
    twice: list[str] = []

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for key, value in pairs:
            if key in made and made[key] != value:
                twice.append(key)
                made[key] = _TWICE
            else:
                made[key] = value
        return made

    try:
        return JsonDocument(json.loads(text, object_pairs_hook=unique, parse_int=_whole), twice)
    except RecursionError as error:
        raise Refused("not_json", "it is nested too deeply") from error
    except ValueError as error:
        raise Refused("not_json", f"it is not JSON: {str(error)[:120]}") from error


def _whole(digits: str) -> int | float:
    """Of more digits than any quantity has, which Python would not read, a number that is none: inf."""
    return int(digits) if len(digits) <= _MOST_DIGITS else math.inf


class JsonLines(NamedTuple):
    """Objects, each at the index of its line; by index, why a line is none; and keys that one has twice."""

    values: list[Any]
    wrong: dict[int, str]
    twice: list[str]


def json_lines(text: str) -> JsonLines | None:
    """The objects of a text that has one a line; None: it is no such text. A bad line spoils itself alone."""
    lines = [line.strip() for line in text.splitlines()]
    full = [line for line in lines if line]
    whole = [line for line in full if line.startswith("{") and line.endswith("}")]
    if len(full) < 2 or 2 * len(whole) < len(full) or (len(whole) < len(full) and _is_document(text)):
        return None
    values: list[Any] = [_GONE] * len(lines)
    wrong: dict[int, str] = {}
    twice: list[str] = []
    for index, line in enumerate(lines):
        if not line:
            continue
        try:
            parsed = parsed_json(line)
        except Refused as refused:
            wrong[index] = refused.message
            continue
        if isinstance(parsed.value, dict):
            values[index] = parsed.value
            twice += parsed.twice
        else:
            wrong[index] = "a JSON object is due in each line"
    return JsonLines(values, wrong, twice) if len(wrong) < len(full) else None


def _is_document(text: str) -> bool:
    try:
        parsed_json(text)
    except Refused:
        return False
    return True


class PayloadTable(NamedTuple):
    """Rows by the names of their columns, each at the index of its line; by index, why a line is none.

    `above`: how many lines stand before that which names the columns.
    """

    rows: list[Any]
    wrong: dict[int, str]
    above: int = 0


def table(
    text: str, header: list[str] | None = None, heads: Sequence[str] = (), delimiters: str = ",;\t|"
) -> PayloadTable:
    """The table in a text. Raises Refused.

    Args:
        header: the columns, where no line names them.
        heads: columns of which the line of names has one; other lines may stand before it.
        delimiters: one of them is taken: that of which the header has most.

    A quote that is not closed in its line spoils that line, not those after it.
    """
    lines = text.splitlines()
    rows: list[Any] = [_GONE] * len(lines)
    wrong: dict[int, str] = {}
    columns = header
    delimiter = delimiters[0]
    begin = next((index for index, line in enumerate(lines) if any(head in line for head in heads)), 0)
    above = sum(bool(line.strip()) for line in lines[:begin])
    for index, line in enumerate(lines[begin:], begin):
        if not line.strip() or (columns is header and line.lower().startswith("sep=")):
            continue
        if columns is None or (columns is header and header is not None and index == 0):
            delimiter = max(delimiters, key=line.count)
        try:
            # Files that are parted by pipes know no quotes.
            quoting: Literal[0, 3] = csv.QUOTE_NONE if delimiter == "|" else csv.QUOTE_MINIMAL
            reader = csv.reader(
                [line], delimiter=delimiter, strict=True, skipinitialspace=True, quoting=quoting
            )
            cells = next(reader)
        except (csv.Error, StopIteration) as error:
            wrong[index] = f"the line cannot be read: {error or 'a quote is not closed'}"
            continue
        if columns is None:
            columns = [cell.strip() for cell in cells]
            if doubled := sorted({name for name in columns if name and columns.count(name) > 1}):
                raise Refused("twice", f"two columns are named {doubled[0]!r}: which one counts?")
            continue
        if len(cells) != len(columns):
            wrong[index] = f"{len(cells)} cells in {len(columns)} columns"
            continue
        rows[index] = dict(zip(columns, cells, strict=False))
    return PayloadTable(rows, wrong, above)
