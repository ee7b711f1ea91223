"""A decoder in JavaScript as adapters call it: limits on time and memory, words for all else."""

import contextlib
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from schemas.base import to_ms
from schemas.errors import Refused
from sources.adapters.core.frame_codec import Decoded
from sources.adapters.core.parts import printable

#: Bytes of a decoder: those of the largest devices have a tenth of it.
MAX_SOURCE: Final = 1024 * 1024
#: Characters of what one decodes: a day's history of a device fits many times.
_MAX_ANSWER: Final = 256 * 1024
#: Warnings of one uplink that are named.
_MAX_WARNINGS: Final = 8
_CHILD: Final = Path(__file__).with_name("child.py")


class CodecProcess:
    """The process in which all decoders run; started when it is needed, and again if it was ended."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[str] | None = None
        self._one = threading.Lock()

    def call(self, source: str, uplink: dict[str, Any]) -> dict[str, Any]:
        """What the decoder answers. Raises Refused where the process was ended over it."""
        with self._one:
            for last in (False, True):
                child = self._running()
                assert child.stdin is not None
                assert child.stdout is not None
                line = ""
                with contextlib.suppress(OSError):  # it is gone, which the empty line tells
                    child.stdin.write(json.dumps({"source": source, "uplink": uplink}) + "\n")
                    child.stdin.flush()
                    line = child.stdout.readline()
                if line.endswith("\n"):
                    answer: dict[str, Any] = json.loads(line)
                    return answer
                ended = self._end()
                if ended == -signal.SIGPROF:
                    raise Refused("codec_timeout", "it did not end, and was ended")
                # Somebody else may have ended it while it was idle: once more.
                if last:
                    raise Refused("codec_error", f"the process that ran it ended with {ended}")
        raise AssertionError

    def close(self) -> None:
        """End the process."""
        with self._one:
            self._end()

    def _running(self) -> subprocess.Popen[str]:
        if self._child is not None and self._child.poll() is not None:
            self._end()
        if self._child is None:
            self._child = subprocess.Popen(
                [sys.executable, "-E", "-s", str(_CHILD)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env={}, text=True,
            )  # fmt: skip
        return self._child

    def _end(self) -> int:
        child, self._child = self._child, None
        if child is None:
            return 0
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        try:
            return child.wait(1.0)
        except subprocess.TimeoutExpired:
            child.kill()
            return child.wait()


class JavaScriptCodec:
    """A vendor's decoder: `decodeUplink(input)` as The Things Stack and ChirpStack call it."""

    def __init__(self, name: str, source: str, process: CodecProcess) -> None:
        self.name = name
        self._source = source
        self._process = process

    @classmethod
    def of_file(cls, file: Path, process: CodecProcess) -> "JavaScriptCodec":
        """The decoder in a file. Raises Refused, OSError."""
        with file.open("rb") as handle:
            data = handle.read(MAX_SOURCE + 1)
        if len(data) > MAX_SOURCE:
            raise Refused(
                "codec_too_large", f"{file.name} has more than {MAX_SOURCE} bytes: is it a decoder?"
            )
        try:
            return cls(file.name, data.decode("utf-8-sig"), process)
        except UnicodeDecodeError as error:
            raise Refused("codec_not_text", f"{file.name} is no text (UTF-8): {error.reason}") from error

    def decode(self, frame: bytes, port: int, received_at: datetime) -> Decoded:
        """What a frame means. Raises Refused `codec_…`, with the decoder's own words where it has some."""
        uplink = {"bytes": list(frame), "fPort": port, "recvTime": to_ms(received_at)}
        try:
            answer = self._process.call(self._source, uplink)
        except Refused as refused:
            raise Refused(refused.code, f"{self.name}: {refused.message}") from refused
        if "ended" in answer:
            raise self._failed(answer)
        text = answer["answer"]
        if not text or len(text) > _MAX_ANSWER:
            why = f"{self.name} gives {f'{len(text)} characters' if text else 'nothing that JSON can say'}"
            raise Refused("codec_error", why)
        try:
            found = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise Refused("codec_error", f"{self.name} gives no JSON: {error!s:.80}") from error
        return self._given(found, port)

    def _given(self, found: Any, port: int) -> Decoded:
        if not isinstance(found, dict):
            raise Refused("codec_error", f"{self.name} gives nothing that can be used")
        if found.get("missing"):
            raise Refused("codec_error", f"{self.name} has no function decodeUplink(input)")
        if found.get("later"):
            raise Refused("codec_error", f"{self.name}: decodeUplink is async; network servers call no such")
        given = found.get("given")
        if not isinstance(given, dict):
            raise Refused("codec_error", f"{self.name} gives no object for port {port}")
        if errors := _texts(given.get("errors")):
            raise Refused("codec_error", f"{self.name} says: {'; '.join(errors)}")
        data = given.get("data")
        if not isinstance(data, dict):
            raise Refused("codec_error", f"{self.name} gives no data for port {port}")
        return Decoded(data, _texts(given.get("warnings")))

    def _failed(self, answer: Mapping[str, Any]) -> Refused:
        match answer["ended"]:
            case "time":
                return Refused("codec_timeout", f"{self.name} did not end, and was ended")
            case "memory":
                return Refused("codec_memory", f"{self.name} wants more memory than a decoder may have")
        line = "" if answer["line"] is None else f", line {answer['line']}"
        return Refused("codec_error", f"{self.name}{line}: {printable(answer['why'])[:160]}")


def _texts(raw: Any) -> tuple[str, ...]:
    """A decoder's errors or warnings: a list of text by the rules, one text in some."""
    texts = raw if isinstance(raw, list) else [raw] if raw else []
    return tuple(printable(f"{one}")[:160] for one in texts[:_MAX_WARNINGS])
