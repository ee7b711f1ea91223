"""Answers that are kept for a while, so that a request sent again is answered and not taken again."""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

from sources.gateway.answers import HttpAnswer
from sources.gateway.errors import KafkaAway, NotTaken

#: Answers that are kept, how long (s), and the longest key.
_ANSWERS: Final = 20_000
_ANSWERS_S: Final = 24 * 3600.0
_LONGEST_KEY: Final = 255


class _Remembered(NamedTuple):
    since_s: float
    digest: bytes
    answer: asyncio.Future[HttpAnswer]


class IdempotentAnswers:
    """Answers by idempotency key (IETF draft-ietf-httpapi-idempotency-key-header), the oldest forgotten."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, _Remembered] = OrderedDict()

    async def once(
        self, key: str, of: str, body: bytes, now_s: float, handle: Callable[[], Awaitable[HttpAnswer]]
    ) -> HttpAnswer:
        """The answer of `handle`, or that of before.

        Args:
            key: as the request carries it.
            of: who sent it, and where to: others may use the same key.
            body: another one with the same key raises NotTaken.
            now_s: s since 1970.
            handle: answers the request. What it raises is raised here, too, and nothing is kept.
        """
        if not key or len(key) > _LONGEST_KEY:
            raise NotTaken("bad_request", f"an idempotency key has 1 to {_LONGEST_KEY} letters", 400)
        name = f"{of}\n{key}"
        digest = hashlib.sha256(body).digest()
        self._forget(now_s)
        known = self._kept.get(name)
        if known is not None:
            if known.digest != digest:
                raise NotTaken("key_reused", "another body came with this idempotency key before", 422)
            answer = await asyncio.shield(known.answer)
            return answer._replace(headers={**answer.headers, "Idempotent-Replay": "true"})
        made: asyncio.Future[HttpAnswer] = asyncio.get_running_loop().create_future()
        self._kept[name] = _Remembered(now_s, digest, made)
        try:
            answer = await handle()
        except BaseException as error:
            # Not taken: the same request may try again. Who waits for this one gets its error.
            del self._kept[name]
            made.set_exception(error if isinstance(error, Exception) else KafkaAway("it was interrupted"))
            made.exception()
            raise
        made.set_result(answer)
        return answer

    def _forget(self, now_s: float) -> None:
        kept = self._kept
        while kept and (len(kept) >= _ANSWERS or next(iter(kept.values())).since_s < now_s - _ANSWERS_S):
            kept.popitem(last=False)
