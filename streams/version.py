"""Which skyfuse this is. The number stands once, in pyproject.toml."""

import tomllib
from contextlib import suppress
from functools import cache
from importlib import metadata
from pathlib import Path


@cache
def version() -> str:
    """The version: of the checkout whose file lies above this package, else of the installed package."""
    checkout = Path(__file__).resolve().parent.parent / "pyproject.toml"
    # Installed, what lies above is site-packages, and has no such file.
    with suppress(OSError):
        project = tomllib.loads(checkout.read_text(encoding="utf-8")).get("project", {})
        if project.get("name") == "skyfuse":
            return str(project["version"])
    return metadata.version("skyfuse")
