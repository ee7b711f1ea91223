"""Where data come from, as a model's card says it."""

from typing import NamedTuple


class Provenance(NamedTuple):
    """What was trained on, in words."""

    data: str
    licence: str
    remarks: str = ""
