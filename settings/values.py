"""What values of settings may be: words for none and for ever, addresses, secrets without a line's end."""

import re
from datetime import timedelta
from typing import Annotated, Final

from pydantic import AfterValidator, BeforeValidator, SecretStr

from schemas.duration import Duration
from schemas.secret import tidy_password, tidy_token

#: What is kept for so long is kept for ever.
FOREVER: Final = timedelta(days=1_000_000)
_LOOKED_BACK: Final = timedelta(days=1)
#: Where a Kafka broker listens that was told nothing else.
_KAFKA_PORT: Final = 9092
_MQTT_ADDRESS: Final = re.compile(r"mqtts?://(\[[0-9a-fA-F:]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?/?")


def none_if_off(value: object) -> object:
    """The word "off" for a setting that may be none: an environment variable cannot say so otherwise."""
    return None if value == "off" else value


def cache_address(url: str | None) -> str | None:
    """Refuse here what the client would refuse later, with a piece of the password in its words.

    Raises ValueError.
    """
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


def brokers(addresses: str | None) -> str | None:
    """Each with its port: clients differ in what they make of an address without one. Raises ValueError."""
    if addresses is None:
        return None
    found = []
    for text in addresses.split(","):
        address = text.strip()
        match = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^\s:/\[\]]+)(?::([0-9]{1,5}))?", address)
        if match is None or not 0 < int(match[2] or _KAFKA_PORT) < 65536:
            raise ValueError(f"{address!r} is no host:port, such as broker-1:9092")
        found.append(f"{match[1]}:{match[2] or _KAFKA_PORT}")
    return ",".join(found)


def _forever(value: object) -> object:
    """The word "forever" for a duration without end."""
    return FOREVER if value == "forever" else value


def a_day_or_more(length: timedelta) -> timedelta:
    """The length. Raises ValueError where it is shorter than what is looked back on."""
    if length < _LOOKED_BACK:
        raise ValueError('it is shorter than a day, and alerts and `up` look back so far: "1d" or more')
    return length


def mqtt_address(url: str | None) -> str | None:
    """A broker of MQTT; None for an empty one. Raises ValueError."""
    if not url:  # a compose file can only leave a variable empty
        return None
    if _MQTT_ADDRESS.fullmatch(url) is None:
        raise ValueError(
            "is no address such as mqtt://broker:1883, or mqtts://broker:8883 for TLS; user and password"
            " are settings of their own"
        )
    return url


DurationOrForever = Annotated[Duration, BeforeValidator(_forever)]
Password = Annotated[SecretStr, AfterValidator(lambda one: SecretStr(tidy_password(one.get_secret_value())))]
SecretToken = Annotated[SecretStr, AfterValidator(lambda one: SecretStr(tidy_token(one.get_secret_value())))]
