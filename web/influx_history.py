"""The past from InfluxDB: series and quality, by InfluxQL, which all its versions speak."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import urllib3

from schemas.parameters import Pollutant
from schemas.secret import SecretError
from schemas.times import HOUR_MS
from settings.token_file import read_token
from sinks.aggregates import KINDS, PeriodKind
from sinks.store_questions import FlagCounts
from web.errors import RequestProblem
from web.thinning import SeriesPoint

_STATUS: Final = {"valid": 0, "indicative": 1, "insufficient": 2}
_WAIT_S: Final = 10.0
#: Windows are read of so many ms at most; what lies before is told by hours and days.
_WINDOWS_MS: Final = 31 * 24 * HOUR_MS
#: Words of a server's that are passed on.
_WORDS: Final = 300
#: Length (ms) of a period. A day with a change of the clocks is said to be as long as others.
_SPANS_MS: Final[dict[PeriodKind, int]] = {"hourly": HOUR_MS, "daily": 24 * HOUR_MS}
_FLAGS: Final = (1, 2, 3, 4, 9)


class InfluxHistory:
    """Reads what the sink has written (docs/outputs.md).

    Args:
        url: of the server.
        bucket: of the windows; those of hours and days have their kind behind its name.
        token: file with a token that may read, read for each question.
    """

    def __init__(self, url: str, bucket: str, token: Path) -> None:
        self._given = url, bucket, token
        self._url = f"{url.rstrip('/')}/query"
        self._bucket = bucket
        self._token = token
        self._pool = urllib3.PoolManager(retries=False, timeout=_WAIT_S)

    def concentrations(self, station: str, parameter: Pollutant, since: int, until: int) -> list[SeriesPoint]:
        """A pollutant's windows, and what is left of those before (ms, [since, until)); oldest first."""
        of = f"station = {_text(station)} AND parameter = {_text(parameter)}"
        windows = [
            SeriesPoint(
                row["time"], row["value"], float(row["kind"] == "imputed"), *_interval(row), row["value"],
                row["value"], row["qc"], corrected=row["kind"] == "corrected",
            )
            if row["has_value"]
            else SeriesPoint(row["time"], None, 0.0, None, None, None, None, None)
            for row in self._rows(
                _select("value, kind, lo, hi, has_interval, has_value, qc", "aq", of),
                max(since, until - _WINDOWS_MS), until,
            )
        ]  # fmt: skip
        return [*self._left("aq", "has_value", of, since, until, windows), *windows]

    def indices(self, station: str, standard: str, since: int, until: int) -> list[SeriesPoint]:
        """An index, likewise; measured, imputed or partly so by its input."""
        of = f"station = {_text(station)} AND standard = {_text(standard)}"
        windows = []
        for row in self._rows(
            _select('"index", status, imputed_share, lo, hi', "aqi", of),
            max(since, until - _WINDOWS_MS),
            until,
        ):
            if row["status"] == "withdrawn":
                continue
            points, lo, hi = (None if row[name] < 0 else row[name] for name in ("index", "lo", "hi"))
            windows.append(
                SeriesPoint(
                    row["time"], points, row["imputed_share"], lo, hi, points, points,
                    _STATUS.get(row["status"]),
                )
            )  # fmt: skip
        return [*self._left("aqi", "has_index", of, since, until, windows), *windows]

    def flags(self, stations: Sequence[str], since: int) -> dict[str, FlagCounts]:
        """What the stations' windows since then (ms) were made of."""
        if not stations:
            return {}
        of = "(" + " OR ".join(f"station = {_text(one)}" for one in stations) + ")"
        when = f"{of} AND time >= {since}ms GROUP BY station"
        measured = "(kind = 'measured' OR kind = 'corrected')"
        series = self._ask(
            *(_select(f"{what}(window_s)", "station_state", when) for what in ("COUNT", "FIRST", "LAST")),
            _select("COUNT(qc)", "aq", "kind = 'imputed'", when),
            # What was measured in vain, not what nobody measures.
            _select("COUNT(qc)", "aq", "kind = 'missing'", "has_raw = true", when),
            *(_select("COUNT(qc)", "aq", measured, f"qc = {flag}", when) for flag in _FLAGS),
        )
        by = [{one["tags"]["station"]: one["values"][0] for one in found} for found in series]
        windows, first, last, imputed, missing, *flagged = by
        return {
            station: FlagCounts(
                windows=_count(windows, station),
                first=first[station][0] if station in first else None,
                last=last[station][0] if station in last else None,
                imputed=_count(imputed, station),
                missing=_count(missing, station),
                measured={
                    flag: count
                    for flag, counts in zip(_FLAGS, flagged, strict=True)
                    if (count := _count(counts, station))
                },
            )
            for station in stations
        }

    def apart(self) -> "InfluxHistory":
        """The same over connections of its own."""
        return InfluxHistory(*self._given)

    def close(self) -> None:
        """Close the connections."""
        self._pool.clear()

    def _left(
        self, measurement: str, there: str, of: str, since: int, until: int, windows: Sequence[SeriesPoint]
    ) -> list[SeriesPoint]:
        """Hours, and days, before the first window that is there."""
        end = windows[0].at if windows else until
        counts = ", measured, corrected" if measurement == "aq" else ""
        fields = f'"mean", "min", "max", imputed_share, {there}{counts}'
        found: list[SeriesPoint] = []
        for kind in KINDS:
            if end - since < HOUR_MS:
                break
            points = [
                SeriesPoint(
                    row["time"], row["mean"], row["imputed_share"], None, None, row["min"], row["max"],
                    None, _SPANS_MS[kind],
                    bool(counts) and row["imputed_share"] <= 0.5 and row["corrected"] > row["measured"],
                )
                for row in self._rows(_select(fields, f"{measurement}_{kind}", of), since, end, kind)
                if row[there]
            ]  # fmt: skip
            found = [*points, *found]
            end = points[0].at if points else end
        return found

    def _rows(
        self, select: str, since: int, until: int, kind: PeriodKind | None = None
    ) -> list[dict[str, Any]]:
        text = f"{select} AND time >= {since}ms AND time < {until}ms"
        [series] = self._ask(text, kind=kind)
        return [dict(zip(one["columns"], values, strict=True)) for one in series for values in one["values"]]

    def _ask(self, *queries: str, kind: PeriodKind | None = None) -> list[list[Mapping[str, Any]]]:
        """The series of each query. Raises RequestProblem."""
        bucket = self._bucket if kind is None else f"{self._bucket}_{kind}"
        try:
            answer = self._pool.request(
                "GET",
                self._url,
                fields={"db": bucket, "q": "; ".join(queries), "epoch": "ms"},
                headers={"Authorization": f"Token {read_token(self._token)}"},
            )
            body = json.loads(answer.data)
        except (urllib3.exceptions.HTTPError, ValueError, SecretError) as error:
            raise _away(str(error)) from error
        said = body.get("error") or body.get("message") if isinstance(body, dict) else "no answer of InfluxDB"
        results = body.get("results", []) if isinstance(body, dict) else []
        said = said or next((one["error"] for one in results if "error" in one), None)
        if kind is not None and said and "not found" in said:
            return [[] for _ in queries]  # no hour, or no day, was written yet
        if answer.status != 200 or said or len(results) != len(queries):
            raise _away(f"{answer.status}: {said or 'an answer of another form'}")
        return [one.get("series", []) for one in results]


def _away(why: str) -> RequestProblem:
    return RequestProblem(503, "no_history", f"InfluxDB gives no history now: {why[:_WORDS]}", 5)


def _interval(row: Mapping[str, Any]) -> tuple[float | None, float | None]:
    return (row["lo"], row["hi"]) if row["has_interval"] else (None, None)


def _count(values: Mapping[str, Sequence[Any]], station: str) -> int:
    return int(values[station][1]) if station in values else 0


def _select(fields: str, measurement: str, *where: str) -> str:
    """A query of InfluxQL. What comes from outside in a condition is a string: `_text`."""
    return " ".join(("SELECT", fields, "FROM", measurement, "WHERE", " AND ".join(where)))


def _text(value: str) -> str:
    """A string of InfluxQL."""
    escaped = value.replace("\\", "\\\\").replace("'", "\\'").replace("\n", " ")
    return f"'{escaped}'"
