"""A reader of the line protocol, written from its grammar: what a server would see in a line."""

import re

from sinks.points import Point, window_lines

_TAG = re.compile(r"((?:\\.|[^,= \\])+)=((?:\\.|[^,= \\])+)(,| )")
_FIELD = re.compile(r'(\w+)=("(?:\\.|[^"\\])*"|[^", ]+)(,| )')


def read(line):
    """The point of a line. Fails where a server would refuse it, or see another number of fields."""
    assert "\n" not in line
    name = re.split(r"\W", line, maxsplit=1)[0]
    assert name
    at, end, tags, fields = len(name) + 1, line[len(name)], {}, {}
    while end == ",":
        found = _TAG.match(line, at)
        assert found
        key, value, end = found.groups()
        tags[key] = re.sub(r"\\([,= ])", r"\1", value)
        at = found.end()
    end = ","
    while end == ",":
        found = _FIELD.match(line, at)
        assert found
        key, value, end = found.groups()
        assert key not in fields
        fields[key] = _value(value)
        at = found.end()
    return Point(name, tuple(tags.items()), fields, int(line[at:]))


def _value(text):
    if text.startswith('"'):
        return re.sub(r'\\(["\\])', r"\1", text[1:-1])
    if text in ("t", "f"):
        return text == "t"
    if text.endswith("i"):
        return int(text[:-1])
    return float(text)


def points(estimate):
    """The points of an estimate, as a server sees them."""
    return [read(line) for line in window_lines(estimate)]
