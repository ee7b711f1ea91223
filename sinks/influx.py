"""Estimates into InfluxDB 2: synchronous writes, back-pressure instead of loss.

influxdb-client's batching mode buffers without bound and drops what fails five times, so batches are posted
one by one, under retry rules of our own:

* 204 says: written. Nothing else does.
* 413, a 400 or 422 in InfluxDB's own words, and 201 (version 3: partly written) speak of the *lines*. The
  batch is halved until the bad line stands alone; it comes back with the server's words, everything else is
  written. (Writing a point again changes nothing.)
* Anything else (429, 5xx, 401, 403, 404, a refused connection, a name that does not resolve, a time-out, the
  200 or 400 of something in between) speaks of the *server* or of our access to it. It is waited for, for
  ever, with exponential back-off, jitter and the server's Retry-After. A server that did not answer in time
  is given twice the time at the next attempt: one that is only slow would otherwise never be done. After a
  401 or 403 the token is asked for again, since it may have been replaced: where it comes from a file, a
  withdrawn token is mended without a restart.
  The caller does not fetch meanwhile: a database that is away for hours costs no memory and no record.

When the last byte of a batch has left and the server works, the next one is made; never more than one ahead.
In the same thread: a second one would keep the interpreter from the socket for milliseconds at a time, and
lose more than it gains. Batches are sent one after the other, so points of a series arrive in order.

Bodies are compressed, except to a server on this machine: there is no wire to spare, and unpacking costs the
server a fifth more time.

`write` blocks; a worker calls it in a thread and acknowledges after it returned.
"""

import gzip
import ipaddress
import json
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple, TypeVar
from urllib.parse import urlencode, urlsplit

from urllib3 import BaseHTTPResponse, PoolManager, Timeout
from urllib3.exceptions import HTTPError, ProtocolError, ReadTimeoutError

from schemas.base import to_ms
from schemas.estimate import Estimate
from schemas.secret import SecretError, tidy_token
from sinks.errors import PointError, SinkSettingError
from sinks.points import Point, window_lines, withdrawn_lines
from streams.http_times import retry_after
from streams.patience import Hindrance, Patience

T = TypeVar("T")

_WRITTEN: Final = 204
#: Statuses that speak of the lines sent, whoever gives them.
_REFUSED: Final = frozenset({201, 413})
#: Statuses that do if they are InfluxDB's own: a server that expects TLS answers 400 as well.
_REFUSED_IF_ITS_OWN: Final = frozenset({400, 422})
#: Statuses that speak of the token.
_NO_ACCESS: Final = frozenset({401, 403})
#: InfluxDB's documented best batch size.
BATCH_LINES: Final = 5_000
#: The first batch of a write is a fifth of one: while it is made nobody works, least of all the server.
_FIRST: Final = 5
#: Longest time that a slow server is given for one request, as a multiple of `timeout`.
_SLOWEST: Final = 16
#: Level 1 takes a seventh of level 9's time and leaves a tenth of the bytes instead of a fifteenth.
GZIP_LEVEL: Final = 1
#: Of what a server says, as much as a dead letter and a log line need.
_WORDS: Final = 1_000
_DROPPED = re.compile(r"\bdropped=(\d+)")


class Rejection(NamedTuple):
    """A line that the server (or the line protocol) will not take."""

    position: int  #: index, in the sequence given to `write`, of what the line was made from
    line: str
    reason: str

    @property
    def too_old(self) -> bool:
        """Whether the bucket does not keep points of that age any more; versions 1 and 2 say so like this."""
        return "retention polic" in self.reason


class _WriteBatch(NamedTuple):
    lines: list[str]
    owners: list[int]  #: per line, as Rejection.position
    body: bytes  #: the lines as they are sent


class _Ahead:
    """Batches, the next of which may be made before it is taken."""

    def __init__(self, batches: Iterator[_WriteBatch]) -> None:
        self._batches = batches
        self._made: list[_WriteBatch | None] = []

    def prepare(self) -> None:
        """Make the next batch, if it is not made."""
        if not self._made:
            self._made.append(next(self._batches, None))

    def take(self) -> _WriteBatch | None:
        """The next batch; None after the last."""
        self.prepare()
        return self._made.pop()


def _nothing() -> None:
    """There is nothing to do while an answer is waited for."""


class InfluxBucket(NamedTuple):
    """Where points go: the address of a server, an organisation of it, and a bucket of that."""

    url: str
    org: str
    bucket: str


class InfluxSink:
    """Writes to one InfluxDB 2 (or what speaks its /api/v2/write).

    `timeout` is in seconds, per request. `compress`: None compresses unless the server is on this machine.
    `now` is only used to read a Retry-After given as a date. `token`: the token, or a function that gives
    the one that is valid now; while that raises SecretError (its file is missing or damaged), writes wait.
    """

    def __init__(
        self,
        where: InfluxBucket,
        token: str | Callable[[], str],
        patience: Patience,
        *,
        timeout: float = 10.0,
        batch_lines: int = BATCH_LINES,
        compress: bool | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        host = server_of(where.url)
        if not where.org or not where.bucket:
            raise SinkSettingError("influx.org and influx.bucket must not be empty: name yours")
        self._ask_token = token if callable(token) else _always(token)
        self._authorization: str | None = None
        self._compress = not on_this_machine(host) if compress is None else compress
        headers = {
            "Accept": "application/json", "User-Agent": "skyfuse",
            "Content-Type": "text/plain; charset=utf-8",
        }  # fmt: skip
        if self._compress:
            headers["Content-Encoding"] = "gzip"
        self._pool = PoolManager(num_pools=1, retries=False, headers=headers)
        self._url = f"{where.url.rstrip('/')}/api/v2/write"
        self._org = where.org
        self._bucket = where.bucket
        self._patience = patience
        self._timeout = timeout
        self._batch_lines = batch_lines
        self._now = now

    def close(self) -> None:
        """Close the connections."""
        self._pool.clear()

    def write(self, estimates: Sequence[Estimate]) -> list[Rejection]:
        """Write the points of the newest revision of each window among `estimates`; blocks until done.

        Returns what can never be written. Raises WaitStopped if the worker stops while the server is away;
        then nothing may be acknowledged.
        """
        newest: dict[tuple[str, int], int] = {}
        for position, estimate in enumerate(estimates):
            key = estimate.station, to_ms(estimate.window.end)
            if key not in newest or estimate.revision >= estimates[newest[key]].revision:
                newest[key] = position
        rejections: list[Rejection] = []
        positions = sorted(newest.values())
        made = _lines([estimates[position] for position in positions], window_lines, rejections)
        rejected = self._send(self._bucket, made) + rejections
        return sorted(one._replace(position=positions[one.position]) for one in rejected)

    def write_withdrawn(self, withdrawn: Sequence[tuple[Estimate, Sequence[str]]]) -> list[Rejection]:
        """Overwrite the index points of standards that an estimate has no more; else as `write`."""
        rejections: list[Rejection] = []
        made = _lines(withdrawn, lambda one: withdrawn_lines(*one), rejections)
        return sorted(self._send(self._bucket, made) + rejections)

    def write_points(self, points: Sequence[Point], bucket: str | None = None) -> list[Rejection]:
        """Write points as they are, to `bucket` (the sink's own by default); else as `write`."""
        rejections: list[Rejection] = []
        made = _lines(points, lambda point: [point.line()], rejections)
        return sorted(self._send(bucket or self._bucket, made) + rejections)

    def _send(self, bucket: str, made: Iterator[tuple[int, list[str]]]) -> list[Rejection]:
        rejections: list[Rejection] = []
        batches = _Ahead(self._batches(made))
        while (batch := batches.take()) is not None:
            reason = self._post(bucket, batch.body, batches.prepare)
            if reason is not None:
                rejections += self._search(bucket, batch, reason)
        return rejections

    def _batches(self, made: Iterator[tuple[int, list[str]]]) -> Iterator[_WriteBatch]:
        lines: list[str] = []
        owners: list[int] = []
        enough = self._batch_lines // _FIRST
        for position, own in made:
            lines += own
            owners += [position] * len(own)
            if len(lines) >= enough:
                yield _WriteBatch(lines, owners, self._body(lines))
                lines, owners = [], []
                enough = self._batch_lines
        if lines:
            yield _WriteBatch(lines, owners, self._body(lines))

    def _body(self, lines: Sequence[str]) -> bytes:
        plain = "\n".join(lines).encode()
        return gzip.compress(plain, compresslevel=GZIP_LEVEL) if self._compress else plain

    def _search(self, bucket: str, batch: _WriteBatch, reason: str) -> list[Rejection]:
        """Write a batch of which some lines were refused, for `reason`; gives those back."""
        # A conflict of field types spoils a whole measurement: side by side, its lines are soon found.
        order = sorted(range(len(batch.lines)), key=lambda index: _measurement(batch.lines[index]))
        lines = [batch.lines[index] for index in order]
        rejections: list[Rejection] = []
        todo: list[tuple[int, int, str | None]] = [(0, len(lines), reason)]
        while todo:
            start, stop, answer = todo.pop()
            part = lines[start:stop]
            if answer is None:
                answer = self._post(bucket, self._body(part))
                if answer is None:
                    continue
            dropped = _DROPPED.search(answer)
            if len(part) == 1 or (dropped and int(dropped[1]) == len(part)):
                rejections += [
                    Rejection(batch.owners[order[index]], lines[index], _short(answer))
                    for index in range(start, stop)
                ]
            else:
                middle = (start + stop) // 2
                todo += [(middle, stop, None), (start, middle, None)]
        return rejections

    def _post(self, bucket: str, body: bytes, meanwhile: Callable[[], None] = _nothing) -> str | None:
        """One batch, tried until the server takes it (None) or refuses its content (its words).

        `meanwhile` is called when a body is on its way, before its answer is waited for.
        """
        url = f"{self._url}?{urlencode({'org': self._org, 'bucket': bucket, 'precision': 's'})}"
        attempt = 0
        timeout = self._timeout
        while True:
            asked = None
            try:
                headers = {
                    **self._pool.headers, "Content-Length": str(len(body)),
                    "Authorization": self._authorize(),
                }  # fmt: skip
                answer = self._pool.request(
                    "POST", url, body=_sent(body, meanwhile), headers=headers,
                    timeout=Timeout(connect=timeout, read=timeout), redirect=False,
                )  # fmt: skip
            except SecretError as error:
                kind = "cannot be asked"
                reason = f"InfluxDB {kind} without a token: {error} (skyfuse influx init writes it)"
            except HTTPError as error:
                kind = "cannot be reached"
                reason = f"InfluxDB {kind}: {error}{tls_advice(str(error))}"
                if _too_slow(error):
                    timeout = min(2 * timeout, _SLOWEST * self._timeout)
            else:
                its_own, words = (False, "") if answer.status == _WRITTEN else _answer(answer)
                refused = answer.status in _REFUSED or (its_own and answer.status in _REFUSED_IF_ITS_OWN)
                if answer.status == _WRITTEN or refused:
                    if attempt:
                        self._patience.on_end()
                    return words if refused else None
                asked = retry_after(answer.headers.get("Retry-After"), self._now())
                kind = f"answers {answer.status}"
                reason = f"InfluxDB answers {_short(words)}{_advice(answer.status)}"
                if answer.status in _NO_ACCESS:
                    self._authorization = None
            self._patience.pause(attempt, Hindrance("influx", kind, reason), asked)
            attempt += 1

    def _authorize(self) -> str:
        """The header that says who writes. Raises SecretError where the token cannot be had."""
        if self._authorization is None:
            self._authorization = f"Token {tidy_token(self._ask_token())}"
        return self._authorization


def _always(token: str) -> Callable[[], str]:
    """A token that is given once. Raises SinkSettingError."""
    try:
        if tidy_token(token) != token:
            raise SecretError("has a blank or a line end around it: a file's?")
    except SecretError as error:
        raise SinkSettingError(f"influx.token {error}") from None
    return lambda: token


def server_of(url: str) -> str:
    """The host that `influx.url` names. Raises SinkSettingError for what is no address."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
        _ = parts.port
    except ValueError:
        host = None
    if host is None or parts.scheme not in ("http", "https"):
        shown = "" if "@" in url else f' = "{url}"'
        raise SinkSettingError(f"influx.url{shown} is no address: use one such as http://influx:8086")
    if parts.username is not None or parts.password is not None:
        raise SinkSettingError(
            "influx.url must not hold a user or password: InfluxDB 2 takes a token (influx.token_file)"
        )
    return host


def tls_advice(error: str) -> str:
    """What the words of a failed handshake say of `influx.url`."""
    words = error.lower()
    if "wrong_version_number" in words or "record layer failure" in words:
        return ": it speaks http, not https; is influx.url right?"
    if "certificate" in words:
        return ": its certificate is not trusted here; name its authority's file in SSL_CERT_FILE"
    return ""


def _lines(
    what: Sequence[T], lines_of: Callable[[T], list[str]], rejections: list[Rejection]
) -> Iterator[tuple[int, list[str]]]:
    """Position and lines of each; what has none goes to `rejections`."""
    for position, one in enumerate(what):
        try:
            yield position, lines_of(one)
        except PointError as error:
            rejections.append(Rejection(position, "", str(error)))


def _sent(body: bytes, then: Callable[[], None]) -> Iterator[bytes]:
    """`body` for urllib3, which asks for more when it has sent it: that is when `then` is called."""
    yield body
    then()


def _too_slow(error: HTTPError) -> bool:
    """Whether the server did not answer in time, or did not take the body in time."""
    if isinstance(error, ProtocolError):
        return any(isinstance(cause, TimeoutError) for cause in error.args)
    return isinstance(error, ReadTimeoutError)


def on_this_machine(host: str) -> bool:
    """Whether a host name or address is one of this machine's own, without asking anybody."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


class _InfluxAnswer(NamedTuple):
    """Status and words of a server's answer, and whether they are InfluxDB's own."""

    its_own: bool
    words: str


def _answer(answer: BaseHTTPResponse) -> _InfluxAnswer:
    """What a server says.

    InfluxDB's own is JSON in the form of version 2 (`code` and `message`), or of 1 and 3 (`error`). Gateways
    speak JSON, too, often a `message` alone.
    """
    text = answer.data.decode(errors="replace").strip()
    try:
        said = json.loads(text)
    except ValueError:
        said = None
    if isinstance(said, dict):
        message = said.get("message") or said.get("error") or text
        more = f" {json.dumps(said['data'])}" if said.get("data") else ""  # version 3: which lines
        its_own = "error" in said or {"code", "message"} <= said.keys()
        return _InfluxAnswer(its_own, f"{answer.status} {message}{more}")
    return _InfluxAnswer(False, f"{answer.status} {text or answer.reason or ''}".strip())


def _short(words: str) -> str:
    """Both ends: servers repeat the line first and say last what is wrong with it."""
    if len(words) <= _WORDS:
        return words
    return f"{words[: _WORDS // 2]} … {words[-_WORDS // 2 :]}"


def _measurement(line: str) -> str:
    return line.partition(",")[0]


def _advice(status: int) -> str:
    match status:
        case 400 | 422 | 200:
            return ": not in InfluxDB's words; is influx.url its address, with https where it wants that?"
        case 401 | 403:
            return (
                ": influx.token must be allowed to write the bucket (skyfuse influx init makes such a token;"
                " influx.token_file is read again, with influx.token the worker has to be restarted)"
            )
        case 404:
            return ": create the bucket (skyfuse influx init) or mend influx.org and influx.bucket"
        case _:
            return ""
