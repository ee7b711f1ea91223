"""How a folder or a table can be laid out (docs/data-layout.md), and who reads each layout."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from datasets.india_nepal import read_india_nepal
from datasets.plain import Contents, read_plain
from datasets.spool import Spool

#: How a folder can be laid out: docs/data-layout.md.
FORMATS: Final[Mapping[str, Callable[[Path, Spool, ZoneInfo | None], Contents]]] = MappingProxyType(
    {"layout": read_plain, "india-nepal": read_india_nepal}
)
#: A time further ahead of this machine's clock than this is no event that can be replayed.
AHEAD_MS: Final = 86_400_000


class Files(NamedTuple):
    """Where history lies: a folder or a table, its layout, and the zone of times that state none."""

    root: Path
    layout: str
    zone: ZoneInfo | None = None
