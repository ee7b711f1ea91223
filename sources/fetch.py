"""Asking an address that an operator has named, without being led elsewhere.

Whoever answers may be anybody: a redirect, or a name that resolves to something else than before, must not
make the gateway ask its own network. The addresses are therefore looked at where the connection is made, and
every redirect is followed here. What may be private is said by the entry, for this entry alone, and such an
entry is led to no other host.
"""

import asyncio
import ipaddress
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from socket import AddressFamily
from typing import Final, NamedTuple

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from sources.errors import FetchError
from streams.http_times import http_date, retry_after

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_MOST_REDIRECTS: Final = 5
#: A server may ask for patience, but not for ever (s).
_LONGEST_RETRY_S: Final = 86_400.0
#: IPv6 addresses that stand for an IPv4 address behind a translator (RFC 6052).
_TRANSLATED: Final = ipaddress.ip_network("64:ff9b::/96")
#: Of protocols between machines of one network (RFC 6890); Python calls some of them global.
_PROTOCOLS: Final = ipaddress.ip_network("192.0.0.0/24")
#: In words, what a status means for who set up the entry.
_STATUS: Final[Mapping[int, tuple[str, str]]] = {
    401: ("unauthorized", "user name or password are wrong (401)"),
    403: ("forbidden", "the user may not do that (403)"),
    404: ("not_found", "there is nothing at this path (404)"),
    407: ("unauthorized", "a proxy asks who we are (407)"),
    429: ("too_many", "it was asked too often (429)"),
}


@dataclass(frozen=True)
class Known:
    """What the last answer was known by, so that only another one is sent."""

    etag: str | None = None
    last_modified: str | None = None


class Fetched(NamedTuple):
    """An answer. `body` is None where it is the one that is `known`."""

    body: bytes | None
    known: Known
    modified_ms: int | None  #: of the header Last-Modified
    following: str | None = None  #: the next page, as the header Link has it


@dataclass(frozen=True)
class Asked:
    """Whom to ask, and how.

    Args:
        url: http or https.
        local: whether addresses of private networks may be asked; then no other host than this one.
        most_bytes: of the answer's body.
        credentials: user and password, for digest where the server wants that, else basic.
        headers: further ones, which may be secret; sent to the origin of `url` alone.
        timeout_s: of the whole answer.
    """

    url: str
    local: bool
    most_bytes: int
    credentials: tuple[str, str] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    timeout_s: float = 15.0


def is_public(address: str) -> bool:
    """Whether an IP address is one of the internet that anybody may ask."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour
        if inner is None and ip in _TRANSLATED:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFF_FFFF)
        if inner is not None:
            return is_public(str(inner))
        if ip.teredo is not None or ip.is_site_local:
            return False
    elif ip in _PROTOCOLS:
        return False
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


def _refuse(host: str) -> FetchError:
    return FetchError(
        "private_address",
        f"{host} is an address of a private network: `local = true` allows it where that is meant",
    )


class _Guard(AbstractResolver):
    """Names, of which none may stand for an address that is not public."""

    def __init__(self) -> None:
        self._inner = aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: AddressFamily = AddressFamily.AF_UNSPEC
    ) -> list[ResolveResult]:
        """As the system does. Raises FetchError."""
        found = await self._inner.resolve(host, port, family)
        if not all(is_public(one["host"]) for one in found):
            raise _refuse(host)
        return found

    async def close(self) -> None:
        """It holds nothing."""


class Fetcher:
    """Asks one entry's address; to be closed. Whatever is there, it raises FetchError and nothing else."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._origin = URL(asked.url).origin()
        connector = aiohttp.TCPConnector(
            limit=2, force_close=True, resolver=None if asked.local else _Guard(), use_dns_cache=False
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=asked.timeout_s),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": "skyfuse"},
        )

    async def close(self) -> None:
        """Let go of connections."""
        await self._session.close()

    async def fetch(self, known: Known = Known(), url: str | None = None) -> Fetched:
        """The answer, unless it is the one that is known. `url`: another one of the same origin."""
        conditions = {}
        if known.etag is not None:
            conditions["If-None-Match"] = known.etag
        if known.last_modified is not None:
            conditions["If-Modified-Since"] = known.last_modified
        async with self.open(conditions, url) as answer:
            if answer.status == 304:
                return Fetched(None, known, _time_of(known.last_modified))
            body = bytearray()
            async for piece in answer.content.iter_chunked(64 * 1024):
                body += piece
                if len(body) > self._asked.most_bytes:
                    raise FetchError("too_large", f"the answer has more than {self._asked.most_bytes} bytes")
            now_known = Known(_short(answer, "ETag"), _short(answer, "Last-Modified"))
            links = answer.links
            following = str(links["next"]["url"]) if "next" in links else None
            return Fetched(bytes(body), now_known, _time_of(now_known.last_modified), following)

    @asynccontextmanager
    async def open(
        self, headers: Mapping[str, str] | None = None, url: str | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """An answer whose body is still to be read: 200, or 304 where `headers` have a condition."""
        try:
            # Around all of it: many a camera sends its picture slower and slower.
            async with asyncio.timeout(self._asked.timeout_s):
                answer = await self._follow(URL(url or self._asked.url), headers or {})
                async with answer:
                    _judge(answer)
                    yield answer
        except TimeoutError:
            raise FetchError("timeout", f"no whole answer within {self._asked.timeout_s:g} s") from None
        except aiohttp.ClientConnectorDNSError:
            raise FetchError("no_such_host", f"the name {self._origin.host} is not known") from None
        except (aiohttp.ClientConnectorCertificateError, ssl.SSLError, aiohttp.ClientSSLError):
            raise FetchError("bad_certificate", "its certificate is not that of this name") from None
        except aiohttp.ClientConnectorError as error:
            why = error.os_error.strerror or "nothing answers"
            raise FetchError("unreachable", f"it cannot be reached: {why}") from None
        except aiohttp.InvalidURL:
            raise FetchError(
                "bad_url", "there is no such address: write its host as a name, or as 192.0.2.7"
            ) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # Their words may have the address with what is secret in it.
            raise FetchError("broken_answer", f"its answer broke off: {type(error).__name__}") from None

    async def _follow(self, url: URL, conditions: Mapping[str, str]) -> aiohttp.ClientResponse:
        basic = False
        for _ in range(_MOST_REDIRECTS + 1):
            self._expect_allowed(url)
            answer = await self._ask(url, conditions, basic)
            if answer.status == 401 and not basic and self._wants_basic(url, answer):
                answer.release()
                basic = True
                answer = await self._ask(url, conditions, basic)
            if answer.status not in _REDIRECTS or "Location" not in answer.headers:
                return answer
            answer.release()
            url = url.join(URL(answer.headers["Location"]))
        raise FetchError("redirects", f"it leads on more than {_MOST_REDIRECTS} times")

    async def _ask(self, url: URL, conditions: Mapping[str, str], basic: bool) -> aiohttp.ClientResponse:
        own = url.origin() == self._origin
        credentials = self._asked.credentials if own else None
        headers = dict(conditions) | (dict(self._asked.headers) if own else {})
        if basic and credentials is not None:
            headers["Authorization"] = aiohttp.encode_basic_auth(*credentials)
        middlewares = (
            (aiohttp.DigestAuthMiddleware(*credentials),) if credentials is not None and not basic else ()
        )
        return await self._session.get(url, headers=headers, allow_redirects=False, middlewares=middlewares)

    def _wants_basic(self, url: URL, answer: aiohttp.ClientResponse) -> bool:
        asks = " ".join(answer.headers.getall("WWW-Authenticate", [])).lower()
        return self._asked.credentials is not None and url.origin() == self._origin and "basic" in asks

    def _expect_allowed(self, url: URL) -> None:
        if url.scheme not in ("http", "https") or url.host is None:
            raise FetchError("redirects", "it leads to something that is no web address")
        if self._asked.local:
            if url.host != self._origin.host:
                raise FetchError(
                    "redirects", f"it leads to another host, {url.host}, which a local entry must not"
                )
            return
        try:
            ipaddress.ip_address(url.host.partition("%")[0])
        except ValueError:
            return  # a name: its addresses are looked at when it is resolved
        if not is_public(url.host):
            raise _refuse(url.host)


def _judge(answer: aiohttp.ClientResponse) -> None:
    if answer.status in (200, 206, 304):
        return
    code, words = _STATUS.get(
        answer.status,
        ("server_error" if answer.status >= 500 else "refused", f"it answers {answer.status}"),
    )
    raise FetchError(code, words, _retry_after(answer))


def _retry_after(answer: aiohttp.ClientResponse) -> float | None:
    asked = retry_after(answer.headers.get("Retry-After"), datetime.now(UTC))
    return None if asked is None else min(asked, _LONGEST_RETRY_S)


def _short(answer: aiohttp.ClientResponse, name: str) -> str | None:
    text = answer.headers.get(name)
    return text if text is not None and len(text) <= 512 else None


def _time_of(text: str | None) -> int | None:
    """ms since 1970 of an HTTP date."""
    at = http_date(text)
    return None if at is None else round(at.timestamp() * 1000)
