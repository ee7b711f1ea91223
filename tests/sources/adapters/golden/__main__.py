"""Writes what the golden payloads become; of the adapters that are named, or of all."""

import sys

from sources.adapters.core.translation import translate
from tests.sources.adapters.golden import cases, text

if __name__ == "__main__":
    named = sys.argv[1:]
    for case in cases():
        if not named or case.adapter.name in named:
            case.expected.write_text(text(translate(case.adapter, case.file.read_bytes(), case.context)))
