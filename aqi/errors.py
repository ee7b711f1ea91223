"""What can go wrong in the air-quality package. Every message says what, where and how to mend."""

from schemas.errors import SkyfuseError


class AqiError(SkyfuseError):
    """Root of the package's errors."""


class StandardError(AqiError):
    """A standard's data file is missing, malformed or contradicts itself."""


class UnitError(AqiError):
    """A unit that the parameter cannot have, or a conversion that needs what was not given."""


class HistoryError(AqiError):
    """An hourly history was given something it cannot hold, or a stored state that does not fit."""


class QualityError(AqiError):
    """A quality-control configuration that makes no sense."""


class CorrectionError(AqiError):
    """An unknown correction, or one that lacks an input it needs."""


class InputError(AqiError):
    """Concentrations given by a person that cannot be turned into an index."""
