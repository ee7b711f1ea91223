"""What `alerting` raises.

AlertError
└── RulesError      the rules file is wrong; says in which line
"""

from schemas.errors import SkyfuseError


class AlertError(SkyfuseError):
    """Root of everything `alerting` raises."""


class RulesError(AlertError):
    """The rules file is wrong; the message names the file, the line, what is wrong and how to mend it."""
