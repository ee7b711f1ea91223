"""Runs decoders in a process of its own: `runner.py` starts it, and writes a request a line.

Every call gets a fresh interpreter, so that nothing one uplink leaves behind is seen by the next one. The
interpreter looks at its clock between operations only, and one operation on a long string may take very long:
so the kernel ends this process where the interpreter does not end the call.
"""

import json
import re
import resource
import signal
import sys
import time
from typing import Any, Final

import quickjs

#: Seconds of processor time of a call: decoders need a thousandth of it. The second is the kernel's.
_LIMIT_S: Final = 0.5
_KILLED_S: Final = 1.5
#: Of the interpreter, of its stack, and of this process.
_MEMORY: Final = 16 * 1024 * 1024
_STACK: Final = 256 * 1024
_PROCESS: Final = 1024 * 1024 * 1024

#: What decoders expect to find. They may look for a module to export to, and print while they are tried out.
_BEFORE: Final = """
globalThis.module = {exports: {}};
globalThis.exports = module.exports;
globalThis.console = {log() {}, info() {}, warn() {}, error() {}, debug() {}};
"""
#: `decodeUplink` is what both network servers call; `Decode` and `Decoder` are what they called before.
_CALL: Final = """
(({bytes, fPort, recvTime}) => {
  const exported = globalThis.module && module.exports || {};
  const uplink = typeof decodeUplink === "function" ? decodeUplink : exported.decodeUplink;
  let given;
  if (typeof uplink === "function") {
    given = uplink({bytes, fPort, recvTime: new Date(recvTime), variables: {}});
  } else if (typeof Decode === "function") {
    given = {data: Decode(fPort, bytes, {})};
  } else if (typeof Decoder === "function") {
    given = {data: Decoder(bytes, fPort)};
  } else {
    return '{"missing": true}';
  }
  return JSON.stringify(given instanceof Promise ? {later: true} : {given});
})(%s)
"""


#: The library raises one exception for whatever ends a script, and all that it has is the error's text: this
#: is the engine's own, which a script cannot prolong, and where in the text the script's line stands.
_OUT_OF_MEMORY: Final = "InternalError: out of memory"
_LINE: Final = re.compile(r"<input>:(\d+)")


def called(source: str, uplink: dict[str, Any]) -> dict[str, Any]:
    """What a decoder gives for an uplink (`answer`), or how it ended, as a document.

    `ended`: `time`, `memory`, or `error` with its words (`why`) and its line in the source (None: unknown).
    """
    began = time.process_time()
    context = quickjs.Context()
    context.set_memory_limit(_MEMORY)
    context.set_max_stack_size(_STACK)
    context.set_time_limit(_LIMIT_S)
    try:
        context.eval(_BEFORE)
        context.eval(source)
        answer = context.eval(_CALL % json.dumps(uplink))
        return {"answer": answer if isinstance(answer, str) else ""}
    except quickjs.JSException as error:
        words = str(error)
        why = words.partition("\n")[0]
        # A script can raise any words, but not take the time.
        if time.process_time() - began >= _LIMIT_S:
            return {"ended": "time"}
        if why == _OUT_OF_MEMORY:
            return {"ended": "memory"}
        line = _LINE.search(words)
        return {"ended": "error", "why": why, "line": None if line is None else int(line[1])}
    except MemoryError:
        return {"ended": "memory"}
    except (UnicodeError, ValueError, TypeError) as error:
        return {"ended": "error", "why": f"{type(error).__name__}: {error}", "line": None}


def main() -> None:
    """Answer requests until there are no more."""
    resource.setrlimit(resource.RLIMIT_AS, (_PROCESS, _PROCESS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    for line in sys.stdin:
        request = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, _KILLED_S)
        answer = called(request["source"], request["uplink"])
        signal.setitimer(signal.ITIMER_PROF, 0)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
