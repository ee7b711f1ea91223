"""What `sources.gateway` raises.

GatewayError
├── KafkaAway      not confirmed: nothing is acknowledged; the same again, a little later
├── NotAllowed     a key does not cover the station, or there is none where one is due
├── KeyFileError   the file of keys is wrong, or cannot be written
├── TemplateError  a topic's template in the settings is wrong
├── CodecFileError a decoder that settings name cannot be used
├── CertificateFileError  a certificate or its key cannot be used
├── FtpMissing     FTP is asked for, and what serves it is not installed
├── NotTaken       a request that was turned away, with the answer to it
└── SpoolFull      what waits for Kafka on disk has no more room
"""

from typing import Literal

from schemas.errors import SkyfuseError

#: Why a request was not taken, for programs.
RefusalCode = Literal[
    "no_key", "not_allowed", "too_large", "too_many", "busy", "kafka_away", "spool_full", "bad_request",
    "unknown_adapter", "unknown_path", "key_reused", "unsupported_encoding", "method", "unknown_station",
    "known_station", "refused",
]  # fmt: skip


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


class KeyFileError(GatewayError):
    """The file of keys is wrong, or cannot be written."""


class SpoolFull(GatewayError):
    """What waits for Kafka on disk has no more room."""


class NotTaken(GatewayError):
    """A request that was turned away: a code for programs, the status, and when to come again."""

    def __init__(
        self, code: RefusalCode, message: str, status: int, retry_after_s: int | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.status = status
        self.retry_after_s = retry_after_s


class TemplateError(GatewayError):
    """A topic's template in the settings is wrong."""


class CodecFileError(GatewayError):
    """A decoder that settings name cannot be used."""


class FtpMissing(GatewayError):
    """FTP is asked for in the settings, and what serves it is not installed."""


class CertificateFileError(GatewayError):
    """A certificate that settings name, or its key, cannot be used."""
