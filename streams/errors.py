"""What can go wrong in `streams`.

StreamError
├── TopicError            topics are missing or differ from the table
│   └── NoBrokerError     no broker answers
├── TopicReadError        a topic is not there or cannot be read
├── CommitMetadataError   a committed offset carries metadata this version cannot read
├── DeliveryError         the broker did not confirm a record: the worker stops, nothing is settled
├── StoreError            the local store cannot be used
└── WaitStopped           the worker is stopping while a server is waited for: nothing was acknowledged
"""

from schemas.errors import SkyfuseError


class StreamError(SkyfuseError):
    """Root of everything `streams` raises."""


class TopicError(StreamError):
    """Topics are missing or differ from the table in `streams.topics`."""


class NoBrokerError(TopicError):
    """No broker answers where one should be. It may come yet."""


class TopicReadError(StreamError):
    """A topic is not there or cannot be read."""


class CommitMetadataError(StreamError):
    """A committed offset carries metadata that this version cannot read."""


class DeliveryError(StreamError):
    """The broker did not confirm a record. The worker stops before any offset moves past its cause."""


class StoreError(StreamError):
    """The local store cannot be used."""


class WaitStopped(StreamError):
    """The worker is stopping while a server is waited for: re-read the batch, do not acknowledge."""
