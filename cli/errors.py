"""What commands raise where they cannot do what they were asked for.

CommandError
├── QueryError       what was asked of the store cannot be answered
├── AnnotationError  an annotation cannot be made or taken back as asked
├── DeadLetterError  a dead letter is not there, cannot be read, or could not be sent back
├── ScaffoldError    an adapter's files cannot be made here
├── InfluxInitError  an InfluxDB cannot be set up
├── RegionError      a region that was asked for is not there
├── CalibrationError a correction cannot be suggested or accepted
└── NotifyError      alerts cannot be passed on
"""

from schemas.errors import SkyfuseError


class CommandError(SkyfuseError):
    """Root of everything that commands raise."""


class QueryError(CommandError):
    """What was asked of the store cannot be answered."""


class AnnotationError(CommandError):
    """An annotation that cannot be made or taken back as asked."""


class DeadLetterError(CommandError):
    """A dead letter is not there, cannot be read, or could not be sent back."""


class ScaffoldError(CommandError):
    """An adapter's files cannot be made here."""


class InfluxInitError(CommandError):
    """An InfluxDB cannot be set up."""


class RegionError(CommandError):
    """A region that was asked for is not there."""


class CalibrationError(CommandError):
    """A correction cannot be suggested or accepted."""


class NotifyError(CommandError):
    """Alerts cannot be passed on."""
