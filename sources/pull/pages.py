"""Where an answer goes on that comes in pages. Pure.

Two ways are common: the address has the number of a page in it, and the answer that is not full is the last
one (OpenAQ); or each answer says where the next one is, in itself (SensorThings, QuantAQ) or in the header
`Link` (RFC 8288).
"""

import json
from collections.abc import Mapping
from typing import Any, Final

from yarl import URL

from sources.entries import PAGE
from sources.errors import FetchError

#: Pages of one question. What has more is asked for shorter stretches.
MOST_PAGES: Final = 500
#: Where answers say it: keys from the outside in.
_SAID: Final = (
    ("@iot.nextLink",), ("meta", "next_url"), ("meta", "next"), ("links", "next"), ("next",), ("next_url",)
)  # fmt: skip


def page_of(url: str, number: int) -> str:
    """The address of a page, the first one being 1."""
    return url.replace(PAGE, str(number))


def following(
    written: str, asked: str, number: int, body: bytes, link: str | None, full: int | None
) -> str | None:
    """The address of the page after this one; None: it was the last.

    Args:
        written: the entry's address, with its times and without the number of a page.
        asked: the one that gave this answer.
        number: of the page, from 1.
        body: the answer.
        link: what its header `Link` says is next.
        full: rows of a page that is not the last one, where the entry says so; else any row will do.

    Raises FetchError: it leads to another host, or on and on.
    """
    document = _document(body)
    if PAGE in written:
        rows = rows_in(document)
        found = page_of(written, number + 1) if rows >= (full or 1) else None
    else:
        found = _joined(asked, link or _said(document))
    if found is None or found == asked:
        return None
    if URL(found).origin() != URL(asked).origin():
        raise FetchError("redirects", "its next page is said to be at another host, which is not asked")
    if number >= MOST_PAGES:
        raise FetchError("too_many_pages", f"it has more than {MOST_PAGES} pages: ask for a shorter `span`")
    return found


def rows_in(document: Any) -> int:
    """How many rows an answer has: those of the longest list in it, or in an object at its outside."""
    if isinstance(document, list):
        return len(document)
    if isinstance(document, Mapping):
        return max((len(value) for value in document.values() if isinstance(value, list)), default=0)
    return 0


def _document(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _joined(asked: str, said: str | None) -> str | None:
    if said is None or not said.startswith(("http://", "https://", "/", "?")):
        return None  # a word of the payload's own
    try:
        return str(URL(asked).join(URL(said)))
    except ValueError:
        return None


def _said(document: Any) -> str | None:
    for path in _SAID:
        found = document
        for key in path:
            found = found.get(key) if isinstance(found, Mapping) else None
        if isinstance(found, str) and found and len(found) <= 4096:
            return found
    return None
