"""One module per source of readings: what its payloads mean, as data and a small function.

An adapter is a module here with an `ADAPTER`; nothing else has to know of it. `translate` (in `core`) gives
readings, facts of stations, and a name for every part that is neither. Pure: no clock, no network, no files.
"""

import importlib
import pkgutil
from functools import cache

from sources.adapters.core.adapter import Adapter


@cache
def adapters() -> dict[str, Adapter]:
    """All there are, by name."""
    modules = (
        importlib.import_module(f"{__name__}.{found.name}")
        for found in pkgutil.iter_modules(__path__)
        if not found.ispkg
    )
    return {module.ADAPTER.name: module.ADAPTER for module in modules}
