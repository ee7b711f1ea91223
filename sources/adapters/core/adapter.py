"""An adapter: what a source's payloads mean, and a small function that finds the values in them."""

from collections.abc import Callable
from dataclasses import dataclass

from sources.adapters.core.payload import Node
from sources.adapters.core.source_format import SourceFormat
from sources.adapters.core.tray import Tray


@dataclass(frozen=True, kw_only=True)
class Adapter(SourceFormat):
    """A source's payloads, and how they are read. `read`: puts a payload's values on the tray."""

    read: Callable[[Node, Tray], None]
