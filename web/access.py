"""Who may ask for what, and how often: keys and their scopes, rates, and the log of requests."""

import logging
import time
from collections.abc import Callable
from typing import Final

from starlette.requests import HTTPConnection

from settings.sections import WebSettings
from sources.gateway.keys import ApiScope, KeyRing, StoredKey
from sources.gateway.rates import Rates, network_of
from web.errors import RequestProblem

log = logging.getLogger(__name__)

_LOCAL: Final = frozenset(("127.0.0.1", "localhost", "[::1]"))


class Access:
    """The door of the API.

    Args:
        settings: of the page.
        keys: those there are.
        clock: s, monotonic.
    """

    def __init__(
        self, settings: WebSettings, keys: KeyRing, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings = settings
        self._keys = keys
        self._clock = clock
        self._per_address = Rates(settings.rate_per_address)
        self._per_key = Rates(settings.rate_per_key)
        hosts = frozenset(name.lower() for name in settings.hosts)
        # A page of a stranger's may have its own name point here; its visitor's browser would show it all.
        local = settings.host in ("127.0.0.1", "::1", "localhost")
        self._hosts = hosts or (_LOCAL if local else None)

    def address(self, request: HTTPConnection) -> str:
        """Whose request it is."""
        if self._settings.behind_proxy:
            # Only the last one is our proxy's word; those before it are the client's.
            said = request.headers.get("x-forwarded-for", "").rpartition(",")[2].strip()
            if said:
                return said
        return request.client.host if request.client else ""

    def key_of(self, request: HTTPConnection) -> StoredKey | None:
        """The key that was shown, if any is known."""
        secret = _secret(request)
        return None if secret is None else self._keys.shown(secret)

    def check(self, request: HTTPConnection, scope: ApiScope) -> StoredKey | None:
        """The key that was shown, if any, which may do what is asked. Raises RequestProblem."""
        self.check_host(request)
        self._within(self._per_address, network_of(self.address(request)), "address")
        secret = _secret(request)
        if secret is None:
            if scope in self._settings.anonymous:
                return None
            raise RequestProblem(
                401, "no_key",
                f"this takes a key with the scope {scope}: Authorization: Bearer KEY (skyfuse keys create)",
            )  # fmt: skip
        key = self._keys.shown(secret)
        if key is None or key.signs:
            raise RequestProblem(401, "wrong_key", "nobody has this key (skyfuse keys list)")
        self._within(self._per_key, key.name, "key")
        if scope not in key.scopes and scope not in self._settings.anonymous:
            raise RequestProblem(403, "not_allowed", f"the key {key.name} has not the scope {scope}")
        return key

    def check_host(self, request: HTTPConnection) -> None:
        """Raises RequestProblem for a request to another name than ours."""
        if self._hosts is None:
            return
        host = request.headers.get("host", "").lower()
        name = host if host.endswith("]") else host.rpartition(":")[0] or host
        if name not in self._hosts:
            raise RequestProblem(421, "wrong_host", "this server does not go by that name (web.hosts)")

    def _within(self, rates: Rates, name: str, whose: str) -> None:
        wait = rates.wait_s(name, self._clock())
        if wait > 0:
            raise RequestProblem(429, "too_many", f"too many requests of this {whose}", max(1, round(wait)))


def _secret(request: HTTPConnection) -> str | None:
    given = request.headers.get("x-api-key")
    if given is not None:
        return given.strip()
    kind, _, rest = request.headers.get("authorization", "").partition(" ")
    if not kind:
        return None
    return rest.strip() if kind.lower() == "bearer" else ""
