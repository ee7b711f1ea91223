"""A server of the page with a state that a test has made, on a port of its own, without a broker."""

import asyncio
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import urllib3
import uvicorn

from schemas.alert import Alert
from schemas.estimate import Estimate
from schemas.station import Station
from settings.sections import KafkaSettings, Settings, WebSettings
from sinks.store import Store
from sources.gateway.keys import ApiScope, StoredKey, changing_keys, digest_of, new_key
from sources.gateway.station_pages import StationPages
from sources.stations.edits import Change
from sources.stations.quarantine import Waiting
from sources.stations.registry import StationRegistry
from tests.engines import free_port, until
from tests.samples import T0
from web.live import TopicPlace
from web.parts import Parts
from web.serve import application, parts_of, served_by


class KeptRecords(StationRegistry):
    """A registry without its topic: what is asked for is checked and answered as ever."""

    def __init__(self, known: Sequence[Station], tell: Callable[[str, Station | None], None]) -> None:
        super().__init__({})
        self._known = {one.station: one for one in known}
        self._tell = tell

    def records(self) -> dict[str, Station]:
        return dict(self._known)

    def waiting(self) -> dict[str, Waiting]:
        return (
            {}
            if "new" in self._known
            else {"new": Waiting(count=3, first=1000 * T0, last=1000 * T0, adapters={"skyfuse-json": None})}
        )

    def adopt(self, station: str, fields: Mapping[str, Any]) -> int:
        self.add({"station": station, **fields})
        return 3

    def _send(self, what: Sequence[Change | str]) -> None:
        for one in what:
            if isinstance(one, str):
                self._known.pop(one, None)
                self._tell(one, None)
            else:
                self._known[one.record.station] = one.record
                self._tell(one.record.station, one.record)


@dataclass
class Served:
    """A running server: its parts, which a test may fill, and its address."""

    parts: Parts
    settings: Settings
    url: str

    def start(self) -> None:
        config = served_by(application(self.parts), "127.0.0.1", self.settings.web.port)
        config.lifespan = "off"  # nothing is followed: all there is is known
        self.parts.follower.read.set()
        self._server = server = uvicorn.Server(config)
        loop = self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=lambda: loop.run_until_complete(server.serve()), daemon=True)
        self._thread.start()
        until(lambda: server.started, "the server to start")

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(10)
        assert not self._thread.is_alive()
        self._loop.close()

    def _stir(self) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self.parts.follower.stir)

    def know(self) -> None:
        """All there was at the start is read."""
        self._loop.call_soon_threadsafe(self.parts.follower.read.set)

    def get(self, path: str, **headers: str) -> Any:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        pool = urllib3.PoolManager(retries=False, timeout=10.0)
        return pool.request("GET", self.url + path, headers=named, decode_content=False)

    def json(self, path: str, **headers: str) -> Any:
        answer = self.get(path, **headers)
        assert answer.status == 200, (path, answer.status, answer.data)
        return answer.json()

    def key(self, *scopes: ApiScope) -> str:
        secret = new_key()
        with changing_keys(self.settings.keys_path) as known:
            known.append(StoredKey(name="-".join(scopes), scopes=scopes, sha256=digest_of(secret)))
        return secret

    def show(self, estimates: Sequence[Estimate], partition: int = 0) -> None:
        live = self.parts.live
        for estimate in estimates:
            live.estimate(estimate, TopicPlace("estimate", partition, live.reached("estimate", partition)))
        self._stir()

    def tell(self, alert: Alert) -> None:
        live = self.parts.live
        live.alert(alert, TopicPlace("alert", 0, live.reached("alert", 0)))
        self._stir()


@contextmanager
def served(
    folder: Path,
    estimates: Sequence[Estimate] = (),
    stations: Sequence[Station] = (),
    now: float | None = None,
    **web: Any,
) -> Iterator[Served]:
    """A server that knows these; `web`: its settings."""
    port = free_port()
    settings = Settings(
        data_dir=folder / "data",
        kafka=KafkaSettings(bootstrap="127.0.0.1:1"),
        web=WebSettings(**({"port": port, "rate_per_address": 1000.0, "rate_per_key": 1000.0} | web)),
    )
    with Store(settings.store_path) as store:
        store.write_stations(list(stations))
        store.write(list(estimates))
    parts = parts_of(settings)
    kept = KeptRecords(stations, parts.live.station)
    object.__setattr__(parts, "records", StationPages(kept, parts.now))
    object.__setattr__(parts, "annotate", lambda _: None)
    if now is not None:
        object.__setattr__(parts, "now", lambda: now)
    for record in stations:
        parts.live.station(record.station, record)
    made = Served(parts, settings, f"http://127.0.0.1:{port}")
    made.start()
    made.show(estimates)
    try:
        yield made
    finally:
        made.stop()
        parts.series.close()
        parts.store.close()
