"""Settings: one TOML file (`skyfuse.toml`, or what SKYFUSE_CONFIG names) and SKYFUSE_* environment variables.

The environment wins. Nested names are joined by two underscores: SKYFUSE_KAFKA__BOOTSTRAP=broker:9092.
With nothing set, everything runs on this machine under `data_dir`. A name that is no setting is refused with
the one that was probably meant: a slip must not leave a default in force unseen.

Long because it is a table: whoever looks for a setting reads it from above, as in docs/settings. What values
may be is in `settings.values`.
"""

import os
import re
import tomllib
from collections.abc import Sequence
from datetime import timedelta
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from schemas.duration import Duration
from settings.errors import SettingsError
from settings.names import TopicNames
from settings.spelling import unknown_keys, unknown_variables
from settings.token_file import read_token
from settings.values import (
    FOREVER,
    DurationOrForever,
    Password,
    SecretToken,
    a_day_or_more,
    brokers,
    cache_address,
    mqtt_address,
    none_if_off,
)


class _Section(BaseModel):
    # What is wrong is said without what was given: it may be a secret.
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class KafkaSettings(_Section):
    """The broker; without `bootstrap` an embedded Apache Kafka is started by `skyfuse up`."""

    bootstrap: Annotated[
        str | None,
        AfterValidator(brokers),
        Field(description="host:port of one broker or more, with commas; an embedded one if not set"),
    ] = None
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "PLAIN"
    sasl_username: str | None = None
    sasl_password: Password | None = None
    ssl_cafile: Annotated[
        Path | None, Field(description="certificates (PEM) by which the broker is known")
    ] = None
    partitions: Annotated[
        int,
        Field(ge=1, le=1024, description="of each topic: at most so many workers of a role share the work"),
    ] = 4
    replication: Annotated[
        int, Field(ge=1, description="copies of each record; the cluster needs at least so many brokers")
    ] = 1
    session_timeout: Annotated[
        Duration,
        Field(description="how long a dead worker keeps its partitions; the broker allows 6 s or more"),
    ] = timedelta(seconds=10)
    prefix: Annotated[
        str,
        Field(
            pattern=r"^([A-Za-z0-9][A-Za-z0-9_.-]*\.)?$",
            description='before the names of all topics and groups, with a dot at its end: "test."',
        ),
    ] = ""

    @property
    def names(self) -> TopicNames:
        """What topics and groups are called here."""
        return TopicNames(self.prefix)


class InfluxSettings(_Section):
    """InfluxDB 2; without `url` the local store is the only sink."""

    url: str | None = None
    org: str = "skyfuse"
    bucket: str = "aq"
    token: SecretToken | None = None
    token_file: Annotated[
        Path | None,
        Field(description="file with the token, read again when InfluxDB refuses it; instead of `token`"),
    ] = None
    read_token_file: Annotated[
        Path | None,
        Field(
            description="file with a token that may read (read.token of `skyfuse influx init`): then the"
            " page's history is InfluxDB's"
        ),
    ] = None

    @model_validator(mode="after")
    def _one_token(self) -> "InfluxSettings":
        if self.token is not None and self.token_file is not None:
            raise ValueError("influx.token and influx.token_file are both set: keep one of them")
        return self

    def read_token(self) -> str:
        """The token as it is now, "" where none is set. Raises SecretError for a file that holds none."""
        if self.token_file is not None:
            return read_token(self.token_file)
        return "" if self.token is None else self.token.get_secret_value()


class RedisSettings(_Section):
    """The latest-state cache; without `url` an embedded one is started by `skyfuse up`."""

    url: Annotated[
        str | None,
        BeforeValidator(none_if_off),
        AfterValidator(cache_address),
        Field(description='"off" in a replay, whose values are not the latest', repr=False),
    ] = None


class WindowSettings(_Section):
    """Event-time rules of the join (docs/architecture.md)."""

    size: Annotated[Duration, Field(description="of a window: whole seconds that divide an hour")] = (
        timedelta(seconds=60)
    )
    grace: Annotated[Duration, Field(description="how long after its end a window waits for its inputs")] = (
        timedelta(seconds=5)
    )
    allowed_lateness: Annotated[
        Duration, Field(description="how long what comes later still makes a new revision")
    ] = timedelta(minutes=10)
    disorder: Annotated[Duration, Field(description="by how much a source may send out of order")] = (
        timedelta(seconds=2)
    )
    idle_timeout: Annotated[
        Duration | None,
        BeforeValidator(none_if_off),
        Field(description='silence after which a source holds nothing up; "off" in a replay'),
    ] = timedelta(seconds=20)

    @model_validator(mode="after")
    def _whole_parts_of_an_hour(self) -> "WindowSettings":
        seconds = self.size.total_seconds()
        if seconds < 1 or 3600 % seconds:
            raise ValueError(
                f"a window of {seconds:g} s: it must be whole seconds that divide an hour, such as 60 s"
            )
        return self


class VisionSettings(_Section):
    """The encoder of frames."""

    batch: Annotated[int, Field(ge=1, le=64, description="frames that are encoded at a time")] = 8
    threads: Annotated[int, Field(ge=1, description="of the encoder")] = 1


class RetentionSettings(_Section):
    """How long the local store keeps what, in event time behind its newest window; "forever" keeps all.

    docs/outputs.md says what leaves, what stands for it, and how large the store gets.
    """

    windows: Annotated[
        DurationOrForever,
        AfterValidator(a_day_or_more),
        Field(description="whole windows, a day at least; hours and days stand for those before"),
    ] = timedelta(days=7)
    hours: Annotated[
        DurationOrForever, Field(description="hours of windows that have left, and days before them")
    ] = timedelta(days=365)
    days: Annotated[DurationOrForever, Field(description="days of windows that have left")] = FOREVER

    @model_validator(mode="after")
    def _in_order(self) -> "RetentionSettings":
        if not self.windows <= self.hours <= self.days:
            raise ValueError(
                "retention: windows, hours and days follow each other, so none may be kept shorter than the"
                " one before it"
            )
        return self


class NetworkSettings(_Section):
    """The network of stations: those of a region that fill each other's gaps (docs/network.md)."""

    enabled: Annotated[
        bool,
        Field(
            description="whether estimates go through the network stage, which has to run then"
            " (`skyfuse worker network`)"
        ),
    ] = False
    radius_km: Annotated[
        float,
        Field(gt=0, description="what a station never measured is filled from stations within so many km"),
    ] = 50.0


class AlertSettings(_Section):
    """Alerts (docs/outputs.md)."""

    rules: Annotated[Path | None, Field(description="rules file; the default set if not set")] = None


class ForecastSettings(_Section):
    """Forecasts of the next three days (docs/forecasts.md)."""

    up: Annotated[
        bool | None,
        Field(
            description="whether `skyfuse up` and `skyfuse replay` start a worker for them; else `up` does"
        ),
    ] = None
    bundle: Annotated[Path | None, Field(description="forecast bundle; the shipped one if not set")] = None


class HttpSettings(_Section):
    """What the gateway takes by HTTP."""

    host: Annotated[
        str, Field(description="address it listens at; 0.0.0.0 where devices are on other machines")
    ] = "127.0.0.1"
    port: Annotated[
        Annotated[int, Field(ge=0, le=65_535)] | None,
        BeforeValidator(none_if_off),
        Field(description='"off": takes nothing by HTTP'),
    ] = 8090
    tls_cert: Annotated[Path | None, Field(description="certificate (PEM), for HTTPS")] = None
    tls_key: Annotated[Path | None, Field(description="its private key (PEM)")] = None
    max_body: Annotated[
        int, Field(ge=1024, le=8 * 1024 * 1024, description="bytes of a payload, unpacked; pictures: 12 MiB")
    ] = 1024 * 1024
    max_clients: Annotated[int, Field(ge=1, description="connections at a time")] = 1000
    rate_per_key: Annotated[
        float, Field(gt=0, description="requests a second of one key; 20 s' worth may come at once")
    ] = 100.0
    rate_per_address: Annotated[
        float, Field(gt=0, description="of one address (IPv6: one /64), likewise")
    ] = 100.0
    behind_proxy: Annotated[
        bool, Field(description="whether a proxy of yours says the address, as the last of X-Forwarded-For")
    ] = False

    @model_validator(mode="after")
    def _both_or_none(self) -> "HttpSettings":
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("gateway.http.tls_cert and gateway.http.tls_key belong together: set both")
        return self


class MqttSettings(_Section):
    """What the gateway takes from an MQTT broker; without `url` nothing."""

    url: Annotated[
        str | None,
        AfterValidator(mqtt_address),
        Field(description="of the broker: mqtt://broker:1883, or mqtts://broker:8883 for TLS"),
    ] = None
    version: Annotated[Literal["5", "3.1.1"], Field(description="of MQTT")] = "5"
    username: str | None = None
    password: Password | None = None
    cafile: Annotated[
        Path | None, Field(description="certificates (PEM) by which the broker is known; the system's else")
    ] = None
    certfile: Annotated[Path | None, Field(description="certificate (PEM) that shows who we are")] = None
    keyfile: Annotated[Path | None, Field(description="its private key (PEM)")] = None
    client_id: Annotated[
        str | None,
        Field(
            pattern=r"^[A-Za-z0-9_.-]{1,48}$",
            description="by which the broker keeps what we have not confirmed: keep it over restarts. Several"
            " gateways of one data_dir get a number behind it; the machine's name if not set",
        ),
    ] = None
    share: Annotated[
        str,
        Field(
            pattern=r"^[^/+#]*$",
            description="group of several gateways that share the work; else one of each data_dir takes all"
            " of it. Mosquitto 2.0 forgets shared subscriptions when it restarts, and what comes before we"
            " are back",
        ),
    ] = ""
    topics: Annotated[
        tuple[str, ...] | None,
        Field(
            description='what is taken: "tele/{station}/SENSOR tasmota", a topic (`+` and `#`; {station},'
            " {adapter}, {camera} stand for one level) and the adapter, or `frame`, or `status`;"
            " those of docs/ingest.md if not set"
        ),
    ] = None
    in_flight: Annotated[
        int, Field(ge=1, le=65_535, description="messages that Kafka has not confirmed, at most")
    ] = 2000


class FtpSettings(_Section):
    """What the gateway takes by FTP: pictures that cameras upload. Needs the extra `ftp`."""

    host: Annotated[
        str, Field(description="address it listens at; 0.0.0.0 where cameras are on other machines")
    ] = "127.0.0.1"
    port: Annotated[
        Annotated[int, Field(ge=0, le=65_535)] | None,
        BeforeValidator(none_if_off),
        Field(description='"off": takes nothing by FTP; 2121, or 21 where the worker may listen there'),
    ] = None
    passive_ports: Annotated[
        tuple[Annotated[int, Field(ge=1, le=65_535)], Annotated[int, Field(ge=1, le=65_535)]] | None,
        Field(description="first and last port of transfers, to be let through a firewall; any if not set"),
    ] = None
    max_clients: Annotated[int, Field(ge=1, le=1000, description="connections at a time")] = 64

    @model_validator(mode="after")
    def _in_order(self) -> "FtpSettings":
        if self.passive_ports is not None and self.passive_ports[0] > self.passive_ports[1]:
            raise ValueError("gateway.ftp.passive_ports: the first port is above the last one")
        return self


def _box(box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    south, west, north, east = box
    if not (-90 <= south < north <= 90 and -180 <= west <= 180 and -180 <= east <= 180):
        raise ValueError("is no [south, west, north, east] in degrees, such as [45.3, 9.0, 45.6, 9.4]")
    return box


_Box = Annotated[tuple[float, float, float, float], AfterValidator(_box)]


class GatewaySettings(_Section):
    """The gateway: what devices send, by HTTP, MQTT and FTP (docs/ingest.md)."""

    http: HttpSettings = HttpSettings()
    mqtt: MqttSettings = MqttSettings()
    ftp: FtpSettings = FtpSettings()
    keys: Annotated[
        Path | None,
        Field(description="file of keys (`skyfuse gateway keys`); data_dir/gateway/keys.toml if not set"),
    ] = None
    sources: Annotated[
        Path | None,
        Field(
            description="file of cameras, folders and addresses that it fetches by itself (docs/ingest.md);"
            " data_dir/gateway/sources.toml, if that is there, if not set"
        ),
    ] = None
    patience: Annotated[
        Duration, Field(description="how long it waits for Kafka to confirm, before it says that it is away")
    ] = timedelta(seconds=10)
    spool: Annotated[
        int,
        Field(
            ge=0,
            le=1_000_000,
            description="MiB on disk, while Kafka is away, for devices that do not send again; 0: none",
        ),
    ] = 256

    unknown: Annotated[
        Literal["accept", "quarantine"],
        Field(
            description="what becomes of readings of stations that have no record: accept publishes them;"
            " quarantine keeps them aside until `skyfuse stations adopt`"
        ),
    ] = "accept"
    admit: Annotated[
        tuple[str, ...],
        Field(description="with quarantine: stations that need no record, such as school-* or one id"),
    ] = ()
    admit_within: Annotated[
        tuple[_Box, ...],
        Field(
            description="with quarantine: boxes [south, west, north, east], degrees; who says that it"
            " stands in one needs no record"
        ),
    ] = ()

    codecs: Annotated[
        dict[str, Path],
        Field(
            description="decodeUplink files (JavaScript) for LoRaWAN devices that nobody decodes, by"
            " EUI, name, model or application, with * where one likes (docs/ingest.md)"
        ),
    ] = {}

    longest_side: Annotated[
        int,
        Field(ge=224, le=8192, description="pixels; larger pictures are scaled down before they enter Kafka"),
    ] = 1024
    keep_originals: Annotated[
        bool, Field(description="whether pictures enter Kafka as the camera sent them, with their metadata")
    ] = False


class WebSettings(_Section):
    """The API and the page, of `skyfuse worker web` (docs/page.md)."""

    host: Annotated[
        str, Field(description="address it listens at; 0.0.0.0 where others are to see it, behind your proxy")
    ] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65_535, description="0: any that is free")] = 8080
    hosts: Annotated[
        tuple[str, ...],
        Field(
            description="names it answers to (Host header); any if not set, those of this machine alone while"
            " it listens at 127.0.0.1"
        ),
    ] = ()
    title: Annotated[str, Field(max_length=80, description="what the page calls itself")] = "skyfuse"
    anonymous: Annotated[
        tuple[Literal["read", "frames", "write", "admin"], ...],
        Field(description="scopes that need no key; `skyfuse keys create` makes keys for the others"),
    ] = ("read",)
    cors: Annotated[
        tuple[Annotated[str, Field(pattern=r"^(https?://[^\s/]+|\*)$")], ...],
        Field(description="origins whose pages may ask the API from a browser, or *; none if not set"),
    ] = ()
    embed: Annotated[
        tuple[Annotated[str, Field(pattern=r"^(https?://[^\s;,/]+|\*)$")], ...],
        Field(description="origins that may show the station widget in a frame"),
    ] = ("*",)
    rate_per_address: Annotated[
        float, Field(gt=0, description="requests a second of one address; 20 s' worth may come at once")
    ] = 20.0
    rate_per_key: Annotated[float, Field(gt=0, description="of one key, likewise")] = 50.0
    streams: Annotated[int, Field(ge=1, description="open streams of events, at most")] = 2000
    behind_proxy: Annotated[
        bool, Field(description="whether a proxy of yours says the address, as the last of X-Forwarded-For")
    ] = False
    tiles: Annotated[
        str | None,
        Field(
            pattern=r"^(https?://[^/\s;,]+)?/[^\s;,]*\{z\}[^\s;,]*\{x\}[^\s;,]*\{y\}[^\s;,]*$",
            description="background map: https://tiles.city.example/{z}/{x}/{y}.png; an outline if not set",
        ),
    ] = None
    tiles_credit: Annotated[str, Field(max_length=200, description="whom these are owed to")] = ""
    pictures: Annotated[
        bool, Field(description="whether small copies of cameras' newest pictures are kept, in memory")
    ] = True
    pictures_for: Annotated[Duration, Field(description="how long such a copy is shown, at most")] = (
        timedelta(hours=6)
    )
    workers: Annotated[
        dict[str, str],
        Field(description="where the workers' /metrics are, by role, for the view Pipeline; `up` knows them"),
    ] = {}


def settings_file() -> Path | None:
    """The settings file that counts here; None where there is none. Raises SettingsError.

    SKYFUSE_CONFIG names it, and then it has to be there; empty, it stands for no file at all.
    """
    named = os.environ.get("SKYFUSE_CONFIG")
    if named is None:
        file, who = Path("skyfuse.toml"), "here"
        if not file.exists():
            return None
    elif not named:
        return None
    else:
        file, who = Path(named), "named by SKYFUSE_CONFIG"
        if not file.exists():
            raise SettingsError(
                f"SKYFUSE_CONFIG names {named}, and there is no such file: mend the path, or unset the"
                " variable"
            )
    # What is no file would be passed over in silence.
    if not file.is_file():
        raise SettingsError(f"{file}, {who}, is a folder or a device, and settings are a file of TOML")
    return file


def _more(names: Sequence[object]) -> str:
    return f" (and {len(names) - 1} more)" if len(names) > 1 else ""


class _File(TomlConfigSettingsSource):
    """A TOML file, of which every fault is one sentence with the file's name."""

    def _read_file(self, file_path: Path | Traversable) -> dict[str, Any]:
        try:
            return tomllib.loads(file_path.read_bytes().decode())
        except tomllib.TOMLDecodeError as error:
            where = re.search(r" \(at (.*)\)$", str(error))
            line = re.search(r"line (\d+)", where[1]) if where else None
            what = str(error).removesuffix(where[0]) if where else str(error)
            at = f"line {line[1]}" if line else "at its end"
            hint = "; text needs quotes" if what == "Invalid value" else ""
            raise SettingsError(f"{file_path}, {at}: this is no TOML: {what}{hint}") from None
        except UnicodeDecodeError as error:
            raise SettingsError(f"{file_path} is not UTF-8 text: {error.reason}") from None
        except OSError as error:
            raise SettingsError(f"{file_path} cannot be read: {error.strerror}") from None


class Settings(BaseSettings):
    """Everything that may differ between a laptop and a city."""

    model_config = SettingsConfigDict(
        env_prefix="SKYFUSE_",
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
    )

    data_dir: Annotated[
        Path, Field(description="where the embedded broker, the cache, logs and the store keep their data")
    ] = Path(".skyfuse")
    store: Annotated[Path | None, Field(description="the local store; data_dir/store.sqlite if not set")] = (
        None
    )
    bundle: Annotated[Path | None, Field(description="model bundle; the shipped one if not set")] = None
    kafka: KafkaSettings = KafkaSettings()
    influx: InfluxSettings = InfluxSettings()
    redis: RedisSettings = RedisSettings()
    window: WindowSettings = WindowSettings()
    vision: VisionSettings = VisionSettings()
    retention: RetentionSettings = RetentionSettings()
    network: NetworkSettings = NetworkSettings()
    alerts: AlertSettings = AlertSettings()
    forecast: ForecastSettings = ForecastSettings()
    gateway: GatewaySettings = GatewaySettings()
    web: WebSettings = WebSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        del dotenv_settings, file_secret_settings
        # One that resembles no setting may be anybody's (a version, an image's name): the command line
        # mentions it. One that does is a slip, and a default would be in force instead of what was meant.
        slips = [one for one in unknown_variables(settings_cls, os.environ) if one.likely]
        if slips:
            raise SettingsError(f"environment: {slips[0]}{_more(slips)}")
        path = settings_file()
        file = _File(settings_cls, path)
        unknown = unknown_keys(settings_cls, file.toml_data)
        if unknown:
            raise SettingsError(f"{path}: {unknown[0]}{_more(unknown)}")
        return init_settings, env_settings, file

    @property
    def keys_path(self) -> Path:
        """The keys of the gateway (TOML)."""
        return self.data_dir / "gateway" / "keys.toml" if self.gateway.keys is None else self.gateway.keys

    @property
    def sources_path(self) -> Path | None:
        """What the gateway fetches by itself (TOML); None: nothing."""
        if self.gateway.sources is not None:
            return self.gateway.sources
        usual = self.data_dir / "gateway" / "sources.toml"
        return usual if usual.exists() else None

    @property
    def store_path(self) -> Path:
        """The local store (SQLite)."""
        return self.data_dir / "store.sqlite" if self.store is None else self.store
