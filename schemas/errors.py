"""Why a record was refused.

SchemaError
└── Refused          a record that cannot be used; carries a stable code and a sentence for a person
"""


class SchemaError(Exception):
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
