"""What `sources` raises, beside the gateway.

FetchError     an address that was asked gave nothing of use
FileRefused    a file that was put into a watched folder cannot be used
StationError   a station's record cannot be had or changed as asked
"""

from typing import Literal

from schemas.errors import SkyfuseError


class FetchError(SkyfuseError):
    """What was asked for was not had. The message has no credentials in it.

    `code`: a word of few that names a series; `retry_after_s`: as the server has it, where it says so.
    """

    def __init__(self, code: str, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.retry_after_s = retry_after_s


class FileRefused(SkyfuseError):
    """A file that was put into a watched folder cannot be used. `code`: a word of few."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class StationError(SkyfuseError):
    """A station's record cannot be had or changed as asked.

    `code`: whether it is known or not, something is wrong with what was given, or the broker is away.
    """

    def __init__(
        self, code: Literal["unknown_station", "known_station", "refused", "broker"], message: str
    ) -> None:
        super().__init__(message)
        self.code = code
