"""Writes what is stored of each type, after a field was added: `python -m tests.golden.layout`."""

import json

from schemas.state import CODECS, VERSION
from tests.golden.test_state import LAYOUT, names, types_in

if __name__ == "__main__":
    types = {kind.__name__: names(kind) for codec in CODECS.values() for kind in types_in(codec.kind)}
    LAYOUT.write_text(json.dumps({"version": VERSION, "types": types}, indent=1, sort_keys=True) + "\n")
