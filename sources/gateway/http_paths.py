"""Which path of a request is served by what: `/v1/observations`, `/v1/ingest/{adapter}`. Pure."""

import re
from collections.abc import Mapping
from typing import Final, Generic, NamedTuple, TypeVar

R = TypeVar("R")

_NAME: Final = re.compile(r"\\\{(\w+)\\\}")
_NOTHING: Final[Mapping[str, str]] = {}


class PathMatch(NamedTuple, Generic[R]):
    """What serves a path, and what the parts of it in braces are."""

    served_by: R
    named: Mapping[str, str]


class HttpPaths(Generic[R]):
    """Paths, each with what serves it. A part in braces stands for one level, and is named by it."""

    def __init__(self, served: Mapping[str, R]) -> None:
        self._plain = {path: PathMatch(by, _NOTHING) for path, by in served.items() if "{" not in path}
        self._patterns = [
            (re.compile(_NAME.sub(r"(?P<\1>[^/]+)", re.escape(path))), by)
            for path, by in served.items()
            if "{" in path
        ]

    def find(self, path: str) -> PathMatch[R] | None:
        """What serves a path; None: nothing does."""
        plain = self._plain.get(path)
        if plain is not None:
            return plain
        for pattern, by in self._patterns:
            match = pattern.fullmatch(path)
            if match is not None:
                return PathMatch(by, match.groupdict())
        return None
