"""What `infra` raises.

InfraError
├── StackError       something of the local stack cannot be started, or died
│   ├── BrokerError      the embedded Apache Kafka
│   └── CacheError       the embedded cache
├── StationError     a station could not be retired
├── DeadLetterError  a dead letter is not there, cannot be read, or could not be sent back
├── TopicReadError   a topic is not there or cannot be read
├── InfluxInitError  an InfluxDB cannot be set up
├── NotifyError      alerts cannot be passed on
└── QueryError       what was asked of the store cannot be answered
"""

from schemas.errors import SkyfuseError


class InfraError(SkyfuseError):
    """Root of everything `infra` raises; the message says what, where, and how to mend it."""


class StackError(InfraError):
    """Something of the local stack cannot be started, or died."""


class BrokerError(StackError):
    """The embedded Apache Kafka cannot be started, stopped or reached."""


class CacheError(StackError):
    """The embedded cache cannot be started."""


class StationError(InfraError):
    """A station could not be retired."""


class DeadLetterError(InfraError):
    """A dead letter is not there, cannot be read, or could not be sent back."""


class AnnotationError(InfraError):
    """An annotation that cannot be made or taken back as asked."""


class TopicReadError(InfraError):
    """A topic is not there or cannot be read."""


class InfluxInitError(InfraError):
    """An InfluxDB cannot be set up."""


class NotifyError(InfraError):
    """Alerts cannot be passed on."""


class QueryError(InfraError):
    """What was asked of the store cannot be answered."""
