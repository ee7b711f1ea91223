"""The root of all errors that skyfuse raises on purpose, and those of `schemas`.

SkyfuseError
├── SchemaError            a record was refused, or a stored state cannot be read
│   ├── Refused            a record that cannot be used; carries a stable code and a sentence for a person
│   └── StateError         stored state that cannot be read
│       ├── DamagedState   bytes that are none, or were altered
│       └── NewerState     written by a later version
├── ArrayError             an array of a wrong shape, dtype or content was handed over
└── one for each room      its module `errors` draws what is below it; docs/architecture.md has all of them
"""


class SkyfuseError(Exception):
    """Root of everything that is raised on purpose; the message says what, where, and how to mend it."""


class SchemaError(SkyfuseError):
    """Root of everything `schemas` raises."""


class Refused(SchemaError):
    """A record cannot be used.

    `code` is a stable identifier for programs and metrics (``naive_time``, ``unknown_parameter`` …),
    `message` says what is wrong, where, and how to mend it.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class StateError(SchemaError):
    """A stored state cannot be read."""


class DamagedState(StateError):
    """The bytes of a stored state are none, or were altered."""


class NewerState(StateError):
    """A stored state was written by a later version; the message says what to do."""


class ArrayError(SkyfuseError, ValueError):
    """An array that was handed over has a wrong shape, dtype or content."""
