"""The boundary: whatever a record can raise becomes a refusal, here and nowhere else.

Stages read what strangers send. What is known to go wrong is refused where it is checked, in good words; but
no list of checks is ever complete, and an exception that ends a worker ends it again after every restart, for
every station. So all work on records goes through `guarded`, or, where many are worked on at once, through
`isolated`, which finds the guilty ones. What is not a record's doing goes on upwards and stops the worker, as
it must: the broker, the disk, memory, and being cancelled (which is no `Exception`).
"""

import logging
import sqlite3
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from pydantic import ValidationError

from schemas.base import first_error
from schemas.errors import Refused
from streams.errors import StreamError

log = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")

#: Never a record's doing. (`StreamError`: what our own code says of the broker and of the store.)
_OURS: Final = (MemoryError, OSError, sqlite3.Error, StreamError)
#: Places in the code (file, line, exception) whose traceback was logged; as many as are worth reading.
_TOLD: Final[set[tuple[str, int, str]]] = set()
_MOST_TOLD: Final = 200


def refusal(error: Exception) -> Refused:
    """Why a record that raised `error` cannot be used. Raises what is not the record's doing."""
    if isinstance(error, Refused):
        return error
    if isinstance(error, ValidationError):
        return Refused(*first_error(error))
    if isinstance(error, _OURS):
        raise error
    _tell(error)
    return Refused(
        "unexpected",
        f"{type(error).__name__}: {error} (skyfuse did not expect this: its log has the traceback; please"
        " report it with this record)",
    )


def guarded(work: Callable[[], T]) -> T | Refused:
    """What `work` makes of one record, or why it cannot be used."""
    try:
        return work()
    except Exception as error:  # noqa: BLE001  the one place for it, see above
        return refusal(error)


def isolated(work: Callable[[Sequence[T]], R], items: Sequence[T]) -> tuple[list[R], list[tuple[T, Refused]]]:
    """`work` on all items at once, or, where that raises, on halves, until the guilty ones stand alone.

    Gives what `work` made of the parts, in order, and the guilty items with the reason. `work` must leave
    nothing behind where it raises, and must make the same of an item in any company: then what comes out
    does not depend on how the items were batched.
    """
    made: list[R] = []
    guilty: list[tuple[T, Refused]] = []
    todo = [items] if items else []
    while todo:
        part = todo.pop()
        found = guarded(lambda part=part: work(part))  # type: ignore[misc]
        if not isinstance(found, Refused):
            made.append(found)
        elif len(part) == 1:
            guilty.append((part[0], found))
        else:
            middle = len(part) // 2
            todo += [part[middle:], part[:middle]]
    return made, guilty


def _tell(error: Exception) -> None:
    """Log a traceback once per place: the thousandth record like it tells nothing new."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = ("", 0) if trace is None else (trace.tb_frame.f_code.co_filename, trace.tb_lineno)
    place = (*where, type(error).__name__)
    if place not in _TOLD and len(_TOLD) < _MOST_TOLD:
        _TOLD.add(place)
        log.error("a record raised what nobody expected; it is refused, the worker goes on", exc_info=error)
