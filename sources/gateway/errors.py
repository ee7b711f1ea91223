"""What `sources.gateway` raises.

GatewayError
├── KafkaAway      not confirmed: nothing is acknowledged; the same again, a little later
└── NotAllowed     a key does not cover the station, or nobody may do that
"""

from schemas.errors import SkyfuseError


class GatewayError(SkyfuseError):
    """Root of everything the gateway raises."""


class KafkaAway(GatewayError):
    """The broker did not confirm a record, or has not for a while. Sending the same again does no harm.

    `retry_after_s`: when it is worth while.
    """

    def __init__(self, message: str, retry_after_s: int = 5) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class NotAllowed(GatewayError):
    """A key does not cover the station, or there is no key where one is due."""
