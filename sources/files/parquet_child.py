"""One Parquet file as tables of text: a program of its own, which may end over a file that takes too much.

    python -m sources.files.parquet_child DESCRIPTOR < request.json

The file is open already, as DESCRIPTOR. The request, `{"where": …, "left": …}`, says what it is called and
how many bytes it may unpack to. Each table is a line of JSON, `{"where": …, "left": …, "size": …}`, and so
many bytes; the last line has no size, or says why the file is refused: `{"refused": [code, words]}`.
"""

import json
import mmap
import resource
import sys
from collections.abc import Mapping
from typing import Any, Final

from sources.errors import FileRefused
from sources.files.parquet import tables
from sources.files.piece import Budget

#: Of this process, with a file of 128 MiB; and its processor time, s.
_MEMORY: Final = 1024 * 1024 * 1024
_TIME_S: Final = 600


def tell(line: Mapping[str, Any], body: bytes = b"") -> None:
    """A line of JSON, and what comes with it."""
    sys.stdout.buffer.write(json.dumps(line).encode() + b"\n" + body)
    sys.stdout.buffer.flush()


def main() -> None:
    """Read the file."""
    import pyarrow as pa
    import pyarrow.compute
    import pyarrow.parquet

    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (_TIME_S, _TIME_S))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    request = json.load(sys.stdin)
    budget = Budget(request["left"])
    data = memoryview(mmap.mmap(int(sys.argv[1]), 0, access=mmap.ACCESS_READ))
    try:
        for piece in tables(data, request["where"], budget):
            tell({"where": piece.where, "left": budget.left, "size": len(piece.body)}, piece.body)
        tell({"left": budget.left})
    except FileRefused as refused:
        tell({"refused": [refused.code, str(refused)]})
    except MemoryError:
        words = f"reading it takes more than {_MEMORY // 2**20} MiB of memory: let its pages be smaller"
        tell({"refused": ["bomb", words]})


if __name__ == "__main__":
    main()
