"""How often somebody may come: token buckets, as many as there is room for."""

from collections import OrderedDict
from functools import lru_cache
from ipaddress import ip_address
from typing import Final

#: Who is remembered; who came longest ago is forgotten, and begins with a full bucket.
_MOST: Final = 20_000
#: Seconds' worth that may come at once: a backlog, or a fleet that speaks on the minute.
_BURST_S: Final = 20.0


class Rates:
    """A rate for each name, and bursts of twenty seconds' worth."""

    def __init__(self, per_s: float) -> None:
        self._per_s = per_s
        self._most = max(1.0, per_s * _BURST_S)
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait_s(self, name: str, now_s: float) -> float:
        """0: it may come now, and has. Else how many seconds later it may."""
        left, at = self._left.pop(name, (self._most, now_s))
        left = min(self._most, left + (now_s - at) * self._per_s)
        wait = 0.0 if left >= 1.0 else (1.0 - left) / self._per_s
        self._left[name] = (left if wait else left - 1.0), now_s
        if len(self._left) > _MOST:
            self._left.popitem(last=False)
        return wait


@lru_cache(4096)
def network_of(address: str) -> str:
    """Who an address is for a rate: an IPv4 address, or the /64 of an IPv6 one, which one customer has."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address[:64]
    if parsed.version == 6:
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return parsed.packed[:8].hex()
    return str(parsed)
