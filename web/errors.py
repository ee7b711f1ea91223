"""What `web` raises.

WebError
└── RequestProblem     a request that is answered with an error; RFC 9457 has its form
"""

from http import HTTPStatus

from schemas.errors import SkyfuseError


class WebError(SkyfuseError):
    """Root of everything the page and its API raise."""


class RequestProblem(WebError):
    """A request that is answered with an error: its status, a code for programs, and a sentence."""

    def __init__(self, status: int, code: str, detail: str, retry_after_s: int | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.retry_after_s = retry_after_s

    def plain(self) -> dict[str, object]:
        """The body, as `application/problem+json` has it."""
        return {
            "type": f"urn:skyfuse:{self.code}",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
        }
