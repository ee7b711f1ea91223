"""What `infra` raises.

StackError       something of the local stack cannot be started, or died
├── BrokerError      the embedded Apache Kafka
├── CacheError       the embedded cache
└── MosquittoError   the local MQTT broker
"""

from schemas.errors import SkyfuseError


class StackError(SkyfuseError):
    """Something of the local stack cannot be started, or died."""


class BrokerError(StackError):
    """The embedded Apache Kafka cannot be started, stopped or reached."""


class CacheError(StackError):
    """The embedded cache cannot be started."""


class MosquittoError(StackError):
    """The local MQTT broker is not installed, or cannot be started."""
