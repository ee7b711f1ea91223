"""What can go wrong in `model/`: one small tree, each message saying what, where and how to mend it."""

from schemas.errors import SkyfuseError


class ModelError(SkyfuseError):
    """Base of every error this package raises on purpose."""


class BundleError(ModelError):
    """A model bundle cannot be used: missing or altered file, wrong schema version, broken manifest."""


class InputError(ModelError, ValueError):
    """What was given to the model has a wrong shape, dtype or content."""


class LayoutError(ModelError):
    """A folder of frames and readings does not follow the layout it was said to follow."""


class WeightsError(ModelError):
    """Pretrained backbone weights are not to be had here."""


class TrainingError(ModelError):
    """A training, evaluation or export run cannot start or go on."""


class ImageRefused(ModelError):
    """A frame's bytes cannot become pixels.

    `code` is one of `model.picture_file.REFUSALS` (for metrics and dead letters); the message is for people.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
