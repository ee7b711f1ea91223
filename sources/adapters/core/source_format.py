"""What a source's payloads mean, as data: its quantities and units, times, clocks, and what is no reading."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Final, Literal

from schemas.parameters import Parameter
from schemas.reading import Stamp, TimeSource
from sources.adapters.core.frame_codec import FrameCodec

#: Of text without a zone. `station`: the zone that the station declares.
NaiveZone = Literal["utc", "station"] | timezone
#: Central European Time without summer time, as European archives are kept.
CET: Final = timezone(timedelta(hours=1))


@dataclass(frozen=True)
class Field:
    """What a number in a payload is: `value * factor + offset` is `parameter` in `unit`.

    `channel`: of several scalings (cf_1, atm) or twins (…_a, …_b); `missing`: numbers, as they are sent, that
    mean no value.
    """

    parameter: Parameter
    unit: str
    channel: str = "value"
    sensor: str = "main"
    factor: float = 1.0
    offset: float = 0.0
    missing: tuple[float, ...] = ()


FAHRENHEIT: Final = (5 / 9, -160 / 9)


@dataclass(frozen=True)
class Context:
    """What is known of a payload beside it.

    Args:
        received_at: when it came in (with a zone).
        station: which station it is of, where the way in says so (a key, a path); payloads of many stations
            name their own.
        zone: of the station's civil time, where it declares one.
        topic: MQTT topic, or path of the request.
        headers: of the request, by lower-case name.
        receiver: who took it in, for payloads without a time: an MQTT broker, or this server.
        read_at: when it was read, of a file: what a clock can have said goes by that, where it is known.
        codec_of: decoder of the raw bytes of a device of these names (EUI, name, model, application), for
            network servers that have none for it.
    """

    received_at: datetime
    station: str | None = None
    zone: tzinfo | None = None
    topic: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    receiver: Literal["broker", "server"] = "server"
    codec_of: Callable[[Sequence[str]], FrameCodec | None] = lambda _: None
    read_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class SourceFormat:
    """A source's payloads.

    Args:
        name: as commands and paths name it.
        title: for people.
        versions: of the firmware, API or document whose payloads it knows, and how those differ.
        form: of the payload: a JSON document, a table (CSV), or lines of text.
        arrives: how such payloads come: a path, a topic, a file.
        fields: by the payload's name of a value.
        others: path (or its beginning, or a pattern with `*`) of parts that are known and are no reading,
            and what they are.
        period_s: seconds that a value stands for; None: the payload says so, or nobody does.
        stamp: whether a time begins or ends that period.
        naive: zone of times that state none; None: they are refused, or the payload has no times.
        time_source: whose clock the payload's times are; `receiver`: it has none. `server`: that of
            a network which stamped it, or of a portal which passes on what others have measured.
        archive: it may hold values of any age, so that what states no time is not of now.
        correction: what the source has already done to the values.
        missing: numbers that mean no value, whatever the field.
        many: one payload may be of many stations.
        raw: its payloads hold raw bytes, which a codec decodes (`Context.codec_of`).
        formats: of times, beside ISO 8601 and numbers since 1970 (`datetime.strptime`).
        header: column names of a table whose lines do not name them.
        heads: columns of which the line of names has one, where a table has other lines above that.
    """

    name: str
    title: str
    versions: str
    arrives: str
    form: Literal["json", "table", "text"] = "json"
    fields: Mapping[str, Field] = field(default_factory=dict)
    others: Mapping[str, str] = field(default_factory=dict)
    period_s: int | None = None
    stamp: Stamp = "ends"
    naive: NaiveZone | None = None
    time_source: TimeSource | Literal["receiver"] = "device"
    archive: bool = False
    correction: str = "none"
    missing: tuple[float, ...] = ()
    many: bool = False
    raw: bool = False
    formats: tuple[str, ...] = ()
    header: tuple[str, ...] | None = None
    heads: tuple[str, ...] = ()

    @property
    def portal(self) -> bool:
        """Whether it is a portal's archive: its times are right whatever year they are of, and late."""
        return self.archive and self.time_source == "server"

    def stated(self) -> dict[str, str]:
        """What it states of its source, in words, by what it is about."""
        parameters = dict.fromkeys(f"{field.parameter} ({field.unit})" for field in self.fields.values())
        channels = dict.fromkeys(field.channel for field in self.fields.values())
        missing = {f"{number:g}" for field in self.fields.values() for number in field.missing}
        return {
            "source": self.title,
            "versions": self.versions,
            "arrives": self.arrives,
            "parameters": ", ".join(parameters) or "whatever it names, with its unit",
            "channels": ", ".join(channels) or "value",
            "correction": self.correction,
            "period": "in the payload, or not known" if self.period_s is None else f"{self.period_s} s",
            "stamp": f"{self.stamp} the period",
            "times": self._clock(),
            "no value": ", ".join(sorted(missing, key=float)) or "null, nan, -999 and the like",
            "stations": "many in one payload" if self.many else "one in a payload",
            **({"raw bytes": "decoded by the vendor's codec, where one is given"} if self.raw else {}),
        }

    def _clock(self) -> str:
        match self.naive:
            case None:
                zone = "with a zone"
            case "station":
                zone = "in the station's zone where none is stated"
            case "utc":
                zone = "UTC where no zone is stated"
            case fixed:
                zone = f"{fixed} where no zone is stated"
        if self.time_source == "receiver":
            return "none in the payload: the time of arrival"
        return f"of the {self.time_source}, {zone}"

    def zone_of(self, context: Context) -> tzinfo | None:
        """The zone of this payload's times that state none."""
        match self.naive:
            case "utc":
                return UTC
            case "station":
                return context.zone
            case other:
                return other
