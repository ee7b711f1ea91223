"""Writes what the golden payloads become."""

from sources.adapters.core.translation import translate
from tests.sources.adapters.golden import cases, text

if __name__ == "__main__":
    for case in cases():
        case.expected.write_text(text(translate(case.adapter, case.file.read_bytes(), case.context)))
