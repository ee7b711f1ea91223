"""What is sent twice by design: a network server's uplink (tried again, or by two of its servers). Pure."""

import json
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Final

#: How long one is remembered: the last of The Things Stack's seven tries comes after an hour and a half.
REMEMBERED_MS: Final = 3 * 3_600_000
#: How many; a hundred bytes each. Fleets that send more in three hours have their oldest forgotten earlier.
REMEMBERED: Final = 200_000


class Recent:
    """Names that were seen of late; bounded in number and age."""

    def __init__(self, most: int = REMEMBERED, for_ms: int = REMEMBERED_MS) -> None:
        self._most = most
        self._for_ms = for_ms
        self._seen: OrderedDict[str, int] = OrderedDict()

    def __contains__(self, name: str) -> bool:
        return name in self._seen

    def note(self, name: str, at_ms: int) -> None:
        """It was seen at `at_ms`; what is older than it may be is forgotten."""
        self._seen[name] = at_ms
        self._seen.move_to_end(name)
        while self._seen and (
            len(self._seen) > self._most or next(iter(self._seen.values())) < at_ms - self._for_ms
        ):
            self._seen.popitem(last=False)


def uplink_of(adapter: str, body: bytes) -> str | None:
    """The name of the uplink that a network server's message carries; None: it carries none, or no one's.

    ChirpStack gives each an id. In The Things Stack it is the device, its session and its frame counter, with
    the frame itself: a device that was set up without join may count from zero after each restart.
    """
    if adapter not in ("the-things-stack", "chirpstack"):
        return None
    try:
        message: Any = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(message, dict):
        return None
    if adapter == "chirpstack":
        given = message.get("deduplicationId")
        # Other events (a position, a line of the log) bear the id of the uplink that led to them.
        is_uplink = "object" in message or "data" in message
        return f"chirpstack {given}" if isinstance(given, str) and given and is_uplink else None
    ids, uplink = _part(message, "end_device_ids"), _part(message, "uplink_message")
    session, frame = uplink.get("session_key_id"), uplink.get("frm_payload")
    who = ids.get("dev_eui") or ids.get("device_id")
    if not (who and session and frame):
        return None
    return f"tts {who} {session} {uplink.get('f_cnt', 0)} {frame}"[:400]


def _part(message: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    inside = message.get(key)
    return inside if isinstance(inside, dict) else {}
