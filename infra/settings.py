"""Settings: one TOML file (`skyfuse.toml`, or what SKYFUSE_CONFIG names) and SKYFUSE_* environment variables.

The environment wins. Nested names are joined by two underscores: SKYFUSE_KAFKA__BOOTSTRAP=broker:9092.
With nothing set, everything runs on this machine under `data_dir`.
"""

import os
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from schemas.duration import Duration
from schemas.secret import read_token, tidy_password, tidy_token


def _off(value: object) -> object:
    """The word "off" for a setting that may be none: an environment variable cannot say so otherwise."""
    return None if value == "off" else value


def _cache_address(url: str | None) -> str | None:
    """Refuse here what the client would refuse later, with a piece of the password in its words."""
    if url is not None:
        from redis import Redis

        try:
            if not url.isprintable():
                raise ValueError
            Redis.from_url(url).close()  # which parses it, and connects nowhere
        except ValueError:
            raise ValueError(
                "is no address such as redis://:PASSWORD@cache:6379/0; inside of a password / is written"
                " %2F, ? %3F, # %23, @ %40, [ %5B"
            ) from None
    return url


Password = Annotated[SecretStr, AfterValidator(lambda one: SecretStr(tidy_password(one.get_secret_value())))]
Token = Annotated[SecretStr, AfterValidator(lambda one: SecretStr(tidy_token(one.get_secret_value())))]


class _Section(BaseModel):
    # What is wrong is said without what was given: it may be a secret.
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class KafkaSettings(_Section):
    """The broker; without `bootstrap` an embedded Apache Kafka is started by `skyfuse up`."""

    bootstrap: str | None = None
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "PLAIN"
    sasl_username: str | None = None
    sasl_password: Password | None = None
    ssl_cafile: Path | None = None
    partitions: Annotated[int, Field(ge=1, le=1024)] = 4
    replication: Annotated[int, Field(ge=1)] = 1
    session_timeout: Annotated[
        Duration,
        Field(description="how long a dead worker keeps its partitions; the broker allows 6 s or more"),
    ] = timedelta(seconds=10)
    prefix: Annotated[str, Field(pattern=r"^([A-Za-z0-9][A-Za-z0-9_.-]*\.)?$")] = ""


class InfluxSettings(_Section):
    """InfluxDB 2; without `url` the local store is the only sink."""

    url: str | None = None
    org: str = "skyfuse"
    bucket: str = "aq"
    token: Token | None = None
    token_file: Annotated[
        Path | None,
        Field(description="file with the token, read again when InfluxDB refuses it; instead of `token`"),
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
        BeforeValidator(_off),
        AfterValidator(_cache_address),
        Field(description='"off" in a replay, whose values are not the latest', repr=False),
    ] = None


class WindowSettings(_Section):
    """Event-time rules of the join (docs/architecture.md)."""

    size: Duration = timedelta(seconds=60)
    grace: Duration = timedelta(seconds=5)
    allowed_lateness: Duration = timedelta(minutes=10)
    disorder: Duration = timedelta(seconds=2)
    idle_timeout: Annotated[
        Duration | None,
        BeforeValidator(_off),
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
    batch: Annotated[int, Field(ge=1, le=64)] = 8
    threads: Annotated[int, Field(ge=1)] = 1


class AlertSettings(_Section):
    rules: Annotated[Path | None, Field(description="rules file; the default set if not set")] = None


class Settings(BaseSettings):
    """Everything that may differ between a laptop and a city."""

    model_config = SettingsConfigDict(
        env_prefix="SKYFUSE_",
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
    )

    data_dir: Path = Path(".skyfuse")
    store: Annotated[Path | None, Field(description="the local store; data_dir/store.sqlite if not set")] = (
        None
    )
    bundle: Annotated[Path | None, Field(description="model bundle; the shipped one if not set")] = None
    kafka: KafkaSettings = KafkaSettings()
    influx: InfluxSettings = InfluxSettings()
    redis: RedisSettings = RedisSettings()
    window: WindowSettings = WindowSettings()
    vision: VisionSettings = VisionSettings()
    alerts: AlertSettings = AlertSettings()

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
        file = Path(os.environ.get("SKYFUSE_CONFIG", "skyfuse.toml"))
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, file)

    @property
    def store_path(self) -> Path:
        """The local store (SQLite)."""
        return self.data_dir / "store.sqlite" if self.store is None else self.store
