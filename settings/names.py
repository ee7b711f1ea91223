"""What topics and consumer groups are called on a broker: the prefix of the settings is before each name."""

from dataclasses import dataclass
from typing import Protocol


class Named(Protocol):
    """What has a name of its own, such as a topic of `streams.topics`."""

    @property
    def name(self) -> str:
        """Without a prefix."""


@dataclass(frozen=True)
class TopicNames:
    """The names on a broker."""

    prefix: str = ""

    def of(self, topic: Named) -> str:
        """A topic's name."""
        return self.prefix + topic.name

    def group(self, role: str) -> str:
        """The consumer group of a role's workers."""
        return f"{self.prefix}skyfuse-{role}"
