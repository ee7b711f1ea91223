"""The decoders that settings name, by device."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from sources.codecs.runner import CodecProcess, JavaScriptCodec


class CodecShelf:
    """Which decoder is for which device.

    `files`: by a pattern of a device's EUI, name, model or application, whatever the case; the first one that
    fits counts. Raises Refused, OSError where a file is no decoder.
    """

    def __init__(self, files: Mapping[str, Path]) -> None:
        self.process = CodecProcess()
        self._codecs = [
            (pattern.lower(), JavaScriptCodec.of_file(file, self.process)) for pattern, file in files.items()
        ]

    def __call__(self, names: Sequence[str]) -> JavaScriptCodec | None:
        """The decoder for a device of these names; None: there is none for it."""
        lower = [name.lower() for name in names if name]
        for pattern, codec in self._codecs:
            if any(fnmatchcase(name, pattern) for name in lower):
                return codec
        return None
