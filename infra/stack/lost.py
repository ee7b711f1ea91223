"""Files that running programs still hold although they are gone: removed under a running skyfuse.

Nothing fails then: Linux keeps an open file until the last program closes it, so a broker or a sink goes on
and keeps what comes where nobody will ever read it.
"""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc")
#: What Linux adds to the name of an open file that has no name any more.
_GONE: Final = " (deleted)"


def holders(path: Path) -> list[int]:
    """Ids of the processes that hold what once lay at `path` and was removed or replaced since.

    Only of processes that we may look into, and none where the system does not tell (other than Linux).
    """
    name = f"{path.resolve()}{_GONE}"
    return sorted({process for process, held in _held() if held == name})


def _held() -> Iterator[tuple[int, str]]:
    for process in _PROC.glob("[0-9]*"):
        # Processes end while we look, and others' are none of our business.
        with suppress(OSError):
            for descriptor in (process / "fd").iterdir():
                with suppress(OSError):
                    yield int(process.name), str(descriptor.readlink())
