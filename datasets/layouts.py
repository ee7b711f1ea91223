"""How a folder or a table can be laid out (docs/data-layout.md), and who reads each layout."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from datasets.errors import SourceError
from datasets.india_nepal import read_india_nepal
from datasets.plain import Contents, read_plain, tables_of
from datasets.spool import Spool
from schemas.times import DAY_MS

#: How a folder can be laid out: docs/data-layout.md.
FORMATS: Final[Mapping[str, Callable[[Path, Spool, ZoneInfo | None], Contents]]] = MappingProxyType(
    {"layout": read_plain, "india-nepal": read_india_nepal}
)
#: A time further ahead of this machine's clock than this is no event that can be replayed.
AHEAD_MS: Final = DAY_MS


class Files(NamedTuple):
    """Where history lies: a folder or a table, its layout, and the zone of times that state none."""

    root: Path
    layout: str
    zone: ZoneInfo | None = None

    def require(self) -> None:
        """Raises SourceError where nothing is to be read there: asked before anything is started for it."""
        if self.layout == "layout":
            tables_of(self.root)
        elif not self.root.is_dir():
            raise SourceError(f"{self.root} is no folder; docs/data-layout.md says what can be read")
