"""Versions of a value in event time, for the windows that are still open. Pure."""

from typing import Generic, NamedTuple, TypeVar

V = TypeVar("V")


class Version(NamedTuple, Generic[V]):
    """A value, and the end of the window after which it holds (ms)."""

    at: int
    value: V


class Ring(Generic[V]):
    """Versions of a value by the end of the window after which they hold."""

    def __init__(self, at: int, value: V) -> None:
        self._versions: list[Version[V]] = [Version(at, value)]

    def latest(self) -> Version[V]:
        """The newest version."""
        return self._versions[-1]

    def as_of(self, horizon: int) -> Version[V]:
        """The newest version not after `horizon` (the oldest one kept, if all are)."""
        for version in reversed(self._versions):
            if version.at <= horizon:
                return version
        return self._versions[0]

    def mark(self) -> int:
        """Where the versions end now, for `back_to`."""
        return len(self._versions)

    def back_to(self, mark: int) -> None:
        """Forget the versions put since then."""
        del self._versions[mark:]

    def put(self, at: int, value: V) -> None:
        """A version that holds from `at` on."""
        self._versions.append(Version(at, value))

    def prune(self, horizon: int) -> None:
        """Forget what no question at or after `horizon` can reach."""
        keep = 0
        for index, version in enumerate(self._versions):
            if version.at <= horizon:
                keep = index
        del self._versions[:keep]
