"""Estimates into InfluxDB 2: synchronous writes, back-pressure instead of loss.

influxdb-client's batching mode buffers without bound and drops what fails five times, so only its
synchronous write is used, under retry rules of our own:

* 400, 413 and 422 speak of the *lines*. The batch is halved until the bad line stands alone; it comes back
  with the server's words, everything else is written. (Writing a point again changes nothing.)
* Anything else (429, 5xx, 401, 403, 404, a refused connection, a time-out) speaks of the *server* or of our
  access to it. It is waited for, for ever, with exponential back-off, jitter and the server's Retry-After.
  The caller does not fetch meanwhile: a database that is away for hours costs no memory and no record.

`write` blocks; a worker calls it in a thread and acknowledges after it returned.
"""

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final, NamedTuple, cast
from urllib.parse import urlsplit

from influxdb_client.client.influxdb_client import InfluxDBClient
from influxdb_client.client.write_api import SYNCHRONOUS
from influxdb_client.domain.write_precision import WritePrecision
from influxdb_client.rest import ApiException
from urllib3.exceptions import HTTPError

from schemas.base import to_ms
from schemas.estimate import Estimate
from streams.sinks.errors import PointError, SinkSettingError
from streams.sinks.patience import Patience
from streams.sinks.points import Point, window_points

#: Statuses that speak of the lines sent.
REFUSED: Final = frozenset({400, 413, 422})
#: InfluxDB's documented best batch size.
BATCH_LINES: Final = 5_000
#: influxdb-client declares the class but means its string constants.
_SECONDS: Final = cast(WritePrecision, WritePrecision.S)
_DROPPED = re.compile(r"\bdropped=(\d+)")


class Rejection(NamedTuple):
    """A line that the server (or the line protocol) will not take."""

    position: int  #: index, in the sequence given to `write`, of what the line was made from
    line: str
    reason: str


class InfluxSink:
    """Writes to one InfluxDB 2 (or what speaks its /api/v2/write).

    `timeout` is in seconds, per request. `now` is only used to read a Retry-After given as a date.
    """

    def __init__(
        self,
        url: str,
        *,
        org: str,
        bucket: str,
        token: str,
        patience: Patience,
        timeout: float = 10.0,
        batch_lines: int = BATCH_LINES,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise SinkSettingError(f'influx.url = "{url}" is no address: use one such as http://influx:8086')
        self._client = InfluxDBClient(
            url=url, token=token, org=org, enable_gzip=True, timeout=int(timeout * 1000)
        )
        self._api = self._client.write_api(write_options=SYNCHRONOUS)
        self._org = org
        self._bucket = bucket
        self._patience = patience
        self._batch_lines = batch_lines
        self._now = now

    def close(self) -> None:
        """Close the connections."""
        self._api.close()  # type: ignore[no-untyped-call]
        self._client.close()  # type: ignore[no-untyped-call]

    def write(self, estimates: Sequence[Estimate]) -> list[Rejection]:
        """Write the points of the newest revision of each window among `estimates`; blocks until done.

        Returns what can never be written. Raises SinkStopped if the worker stops while the server is away;
        then nothing may be acknowledged.
        """
        newest: dict[tuple[str, int], int] = {}
        for position, estimate in enumerate(estimates):
            key = estimate.station, to_ms(estimate.window.end)
            if key not in newest or estimate.revision >= estimates[newest[key]].revision:
                newest[key] = position
        made: list[tuple[str, int]] = []
        rejections: list[Rejection] = []
        for position in sorted(newest.values()):
            try:
                made += [(point.line(), position) for point in window_points(estimates[position])]
            except PointError as error:
                rejections.append(Rejection(position, "", str(error)))
        # A conflict of field types spoils a whole measurement: side by side, its lines are soon found.
        made.sort(key=_measurement)
        rejections += self._send(self._bucket, [line for line, _ in made], [position for _, position in made])
        return sorted(rejections)

    def write_points(self, points: Sequence[Point], bucket: str | None = None) -> list[Rejection]:
        """Write points as they are, to `bucket` (the sink's own by default); else as `write`."""
        lines = [point.line() for point in points]
        return self._send(bucket or self._bucket, lines, range(len(lines)))

    def _send(self, bucket: str, lines: list[str], owners: Sequence[int]) -> list[Rejection]:
        rejections = []
        # Depth first, in order: memory stays that of one batch, and points of a series arrive as they came.
        todo = [
            (start, min(start + self._batch_lines, len(lines)))
            for start in range(0, len(lines), self._batch_lines)
        ][::-1]
        while todo:
            start, stop = todo.pop()
            reason = self._post(bucket, lines[start:stop])
            if reason is None:
                continue
            dropped = _DROPPED.search(reason)
            if stop - start == 1 or (dropped and int(dropped[1]) == stop - start):
                rejections += [Rejection(owners[index], lines[index], reason) for index in range(start, stop)]
            else:
                middle = (start + stop) // 2
                todo += [(middle, stop), (start, middle)]
        return rejections

    def _post(self, bucket: str, lines: list[str]) -> str | None:
        """One batch, tried until the server takes it (None) or refuses its content (its words)."""
        body = "\n".join(lines).encode()
        attempt = 0
        while True:
            asked = None
            try:
                self._api.write(bucket, self._org, body, write_precision=_SECONDS)
            except ApiException as error:
                words = f"{error.status} {error.message}".strip()
                if error.status in REFUSED:
                    return words
                asked = self._retry_after(error.retry_after)
                reason = f"InfluxDB answers {words}{_advice(error.status)}"
            except UnicodeDecodeError:
                reason = "InfluxDB answers something that is not text"
            except HTTPError as error:
                reason = f"InfluxDB cannot be reached: {error}"
            else:
                return None
            self._patience.pause(attempt, reason, asked)
            attempt += 1

    def _retry_after(self, header: str | None) -> float | None:
        if header is None:
            return None
        if header.strip().isdecimal():
            return float(header)
        try:
            moment = parsedate_to_datetime(header)
        except ValueError:
            return None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return max(0.0, (moment - self._now()).total_seconds())


def _measurement(made: tuple[str, int]) -> str:
    return made[0].partition(",")[0]


def _advice(status: int | None) -> str:
    match status:
        case 401 | 403:
            return (
                ": influx.token must be allowed to write the bucket (skyfuse influx init makes such a token)"
            )
        case 404:
            return ": create the bucket (skyfuse influx init) or mend influx.org and influx.bucket"
        case _:
            return ""
