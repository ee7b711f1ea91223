"""Vendors' decoders: good ones, and those that never end, want the whole memory, or are none."""

from collections.abc import Iterator
from datetime import UTC, datetime

import psutil
import pytest

from schemas.errors import Refused
from sources.adapters.core.frame_codec import Decoded
from sources.codecs.runner import MAX_SOURCE, CodecProcess, JavaScriptCodec
from sources.codecs.shelf import CodecShelf

AT = datetime(2026, 8, 21, 10, tzinfo=UTC)


@pytest.fixture(scope="module")
def process() -> Iterator[CodecProcess]:
    made = CodecProcess()
    yield made
    made.close()


def decoded(process: CodecProcess, source: str, frame: bytes = b"\x01\xff", port: int = 85) -> Decoded:
    return JavaScriptCodec("made.js", source, process).decode(frame, port, AT)


@pytest.mark.parametrize(
    "source",
    [
        "function decodeUplink(input) {{ return {{data: {0}}}; }}",
        "const decodeUplink = (input) => ({{data: {0}, errors: [], warnings: []}})",
        "module.exports = {{ decodeUplink: function (input) {{ return {{data: {0}}}; }} }}",
        "function Decode(fPort, bytes) {{ var input = {{fPort: fPort, bytes: bytes}}; return {0}; }}",
        "function Decoder(bytes, port) {{ var input = {{fPort: port, bytes: bytes}}; return {0}; }}",
    ],
)  # fmt: skip
def test_the_forms_that_vendors_write(process: CodecProcess, source: str) -> None:
    body = source.format("{sum: input.bytes[0] + input.bytes[1], port: input.fPort}")
    assert decoded(process, body) == Decoded({"sum": 256, "port": 85})


def test_the_time_is_a_date_and_warnings_are_told(process: CodecProcess) -> None:
    source = "decodeUplink = i => ({data: {at: i.recvTime.toISOString()}, warnings: ['low battery']})"
    assert decoded(process, source) == Decoded({"at": "2026-08-21T10:00:00.000Z"}, ("low battery",))


def test_one_uplink_leaves_nothing_for_the_next(process: CodecProcess) -> None:
    source = "var n = 0; function decodeUplink() { globalThis.seen = (globalThis.seen || 0) + 1;"
    source += " n += 1; return {data: {n: n, seen: globalThis.seen}}; }"
    assert [decoded(process, source).data for _ in range(3)] == [{"n": 1, "seen": 1}] * 3


_UPLINK = "function decodeUplink(input) {{ {0} }}"


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        ("while (true) {}", "codec_timeout", "did not end"),
        ("try { while (true) {} } catch (e) {} finally { return {data: {}} }", "codec_timeout", "not end"),
        ("/(a+)+b/.test('a'.repeat(60))", "codec_timeout", "did not end"),
        # Single operations that take so long that the interpreter looks at its clock too rarely.
        ("let s = 'a'.repeat(4e6); for (;;) s.lastIndexOf('b')", "codec_timeout", "did not end"),
        ("let a = []; for (;;) a.push('x'.repeat(1e5) + a.length)", "codec_memory", "more memory"),
        ("return {data: {a: new ArrayBuffer(2e9)}}", "codec_memory", "more memory"),
        ("return decodeUplink(input)", "codec_error", "Maximum call stack"),
        ("return {data: {a: 1n}}", "codec_error", "BigInt"),
        ("throw new Error('unknown frame')", "codec_error", "made.js, line 1: Error: unknown frame"),
        ("throw 'short'", "codec_error", "short"),
        # Its words are not the engine's.
        ("throw new Error('interrupted: out of memory')", "codec_error", "interrupted: out of memory"),
        ("return {errors: ['no such port', 'nor type']}", "codec_error", "no such port; nor type"),
        ("return {data: {a: 'x'.repeat(300000)}}", "codec_error", "characters"),
        ("return {data: [1, 2]}", "codec_error", "no data for port 85"),
        ("return 7", "codec_error", "no object for port 85"),
        ("", "codec_error", "no object for port 85"),
        ("let d = {}; d.d = d; return {data: d}", "codec_error", "circular"),
        ("return {toJSON: () => undefined}", "codec_error", "no object for port 85"),
        ("return Promise.resolve({data: {}})", "codec_error", "async"),
        ("return {data: {a: Buffer.from(input.bytes)}}", "codec_error", "Buffer is not defined"),
        ("return require('fs')", "codec_error", "require is not defined"),
    ],
)  # fmt: skip
def test_what_goes_wrong_is_refused_in_words(process: CodecProcess, body: str, code: str, words: str) -> None:
    with pytest.raises(Refused) as refused:
        decoded(process, _UPLINK.format(body))
    assert refused.value.code == code
    assert words in refused.value.message
    # ... and the next device is served.
    assert decoded(process, _UPLINK.format("return {data: {a: 1}}")).data == {"a": 1}


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("", "has no function decodeUplink(input)"),
        ("function decodeUplink(", "SyntaxError"),
        ("export function decodeUplink() {}", "SyntaxError"),
        ("JSON.stringify = () => 7; function decodeUplink() { return {data: {}} }", "nothing"),
        ("JSON.stringify = () => '[1]'; function decodeUplink() { return {data: {}} }", "nothing"),
        ("JSON.stringify = () => '{'; function decodeUplink() { return {data: {}} }", "no JSON"),
        ("module = null; exports = 1", "no function"),
    ],
)
def test_what_is_no_decoder_is_refused(process: CodecProcess, source: str, words: str) -> None:
    with pytest.raises(Refused, match=r"made\.js") as refused:
        decoded(process, source)
    assert words in refused.value.message


def test_a_process_that_somebody_ended_is_started_again() -> None:
    before = set(psutil.Process().children())
    process = CodecProcess()
    source = _UPLINK.format("return {data: {a: input.fPort}}")
    assert decoded(process, source).data == {"a": 85}
    (child,) = set(psutil.Process().children()) - before
    child.kill()
    child.wait(300)
    assert decoded(process, source).data == {"a": 85}
    process.close()


def test_a_file_that_is_no_decoder(tmp_path, process: CodecProcess) -> None:
    (tmp_path / "large.js").write_bytes(b" " * (MAX_SOURCE + 1))
    (tmp_path / "binary.js").write_bytes(b"\xff\xfe\x00")
    for name, code in (("large.js", "codec_too_large"), ("binary.js", "codec_not_text")):
        with pytest.raises(Refused) as refused:
            JavaScriptCodec.of_file(tmp_path / name, process)
        assert refused.value.code == code


def test_the_first_pattern_that_fits_a_device_counts(tmp_path) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.js").write_text(_UPLINK.format(f"return {{data: {{a: '{name}'}}}}"))
    shelf = CodecShelf({"AM319*": tmp_path / "one.js", "24e1*": tmp_path / "two.js"})
    try:
        for names, wanted in ((["24e1ff", "", "am319-hall"], "one"), (["24E1ff"], "two")):
            codec = shelf(names)
            assert codec is not None
            assert codec.decode(b"", 1, AT).data == {"a": wanted}
        assert shelf(["70b3", ""]) is None
    finally:
        shelf.process.close()
