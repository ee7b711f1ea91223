"""Which MQTT topic is whose, and what knows its messages: `tele/{station}/SENSOR tasmota`. Pure."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

from sources.adapters import adapters
from sources.gateway.errors import TemplateError

#: Topics that are taken where settings name none: ours, and those that devices and servers bring along.
DEFAULT_TEMPLATES: Final = (
    "skyfuse/{station}/readings skyfuse-json",
    "skyfuse/{station}/ingest/{adapter}",
    "skyfuse/{station}/frames/{camera} frame",
    "skyfuse/{station}/status status",
    "airgradient/readings/+ airgradient",
    "tele/{station}/SENSOR tasmota",
    "tele/{station}/LWT status",
    "device/sck/+/readings smart-citizen",
    "v3/+/devices/+/up the-things-stack",
    "application/+/device/+/event/up chirpstack",
)
_NAMES: Final = ("station", "adapter", "camera")
_REMEMBERED: Final = 20_000
_LEVELS: Final = tuple(f"{{{name}}}" for name in _NAMES)
#: What a topic may carry beside payloads: pictures, and a device's birth and last will.
_KINDS: Final = ("frame", "status")


class Match(NamedTuple):
    """What a topic is: an adapter, `frame` or `status`; and what its levels name."""

    kind: str
    station: str | None
    camera: str


@dataclass(frozen=True)
class TopicTemplate:
    """A template: the filter that is subscribed to, and what reads the levels of a topic."""

    filter: str
    pattern: re.Pattern[str]
    kind: str | None

    @classmethod
    def parse(cls, text: str) -> "TopicTemplate":
        """Of "TOPIC ADAPTER", or "TOPIC" where a level is {adapter}. Raises TemplateError."""
        topic, _, kind = text.strip().rpartition(" ")
        if not topic:
            topic, kind = kind, ""
        topic, named = topic.strip(), [name for name in _NAMES if f"{{{name}}}" in topic]
        known = {*adapters(), *_KINDS}
        if kind and kind not in known:
            raise TemplateError(f"{text!r}: no adapter {kind!r}; there are: {', '.join(sorted(known))}")
        if bool(kind) == ("adapter" in named):
            raise TemplateError(
                f"{text!r}: it names the adapter behind the topic, or has a level {{adapter}}"
            )
        if kind in _KINDS and "station" not in named:
            raise TemplateError(f"{text!r}: a level {{station}} has to say whose {kind} it is")
        levels = topic.split("/")
        filters, patterns = [], []
        for number, level in enumerate(levels):
            if level == "#":
                if number != len(levels) - 1:
                    raise TemplateError(f"{text!r}: # is the last level of a topic")
                filters.append("#")
            elif level == "+" or level in _LEVELS:
                filters.append("+")
                patterns.append("[^/]*" if level == "+" else f"(?P<{level[1:-1]}>[^/]+)")
            elif re.search(r"[+#{}\0]", level):
                raise TemplateError(
                    f"{text!r}: {level!r} is no level of a topic: +, #, {{station}} stand alone"
                )
            else:
                filters.append(level)
                patterns.append(re.escape(level))
        try:
            # `a/#` is sent what is on `a`, too.
            below = "" if levels[-1] != "#" else "(/.*)?" if patterns else ".*"
            pattern = re.compile("/".join(patterns) + below)
        except re.error as error:
            raise TemplateError(f"{text!r}: a level is named twice: {error}") from error
        return cls("/".join(filters), pattern, kind or None)


class TopicMap:
    """All templates; the first that fits a topic counts."""

    def __init__(self, templates: Sequence[str] | None) -> None:
        self._templates = [TopicTemplate.parse(text) for text in templates or DEFAULT_TEMPLATES]
        #: A device speaks on the same topics again and again.
        self.match = lru_cache(_REMEMBERED)(self._match)

    def subscriptions(self, share: str) -> list[str]:
        """What is subscribed to. Birth and last will are not shared: the broker keeps them for newcomers."""
        found = dict.fromkeys(
            f"$share/{share}/{one.filter}" if share and one.kind != "status" else one.filter
            for one in self._templates
        )
        return list(found)

    def _match(self, topic: str) -> Match | None:
        """What a topic is; None: none of those that are taken."""
        for one in self._templates:
            found = one.pattern.fullmatch(topic)
            if found is None:
                continue
            named = found.groupdict()
            kind = one.kind or named["adapter"]
            if kind not in adapters() and kind not in _KINDS:
                return None
            return Match(kind, named.get("station"), named.get("camera", "main"))
        return None


#: What devices say in their births and last wills.
_ONLINE: Final = frozenset(("online", "true", "1", "connected", "alive", "up"))
_OFFLINE: Final = frozenset(("offline", "false", "0", "disconnected", "dead", "down", "lost"))
_STATE: Final = re.compile(r'"(?:state|status|online|connected)"\s*:\s*"?([A-Za-z0-9]+)')


def is_online(payload: bytes) -> bool | None:
    """What a birth (True) or last will (False) says: a word, or JSON with one; None: neither."""
    text = payload[:1000].decode(errors="replace").strip()
    inside = _STATE.search(text)
    word = (inside[1] if inside else text).strip('"').lower()
    return True if word in _ONLINE else False if word in _OFFLINE else None
