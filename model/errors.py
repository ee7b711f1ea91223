"""What `model` raises.

ModelError
├── BundleError      a model bundle cannot be used
├── WeightsError     pretrained weights of a backbone are not to be had here
└── TrainingError    a training, evaluation or export run cannot start or go on
"""

from schemas.errors import SkyfuseError


class ModelError(SkyfuseError):
    """Root of everything `model` raises."""


class BundleError(ModelError):
    """A model bundle cannot be used: missing or altered file, wrong schema version, broken manifest."""


class WeightsError(ModelError):
    """Pretrained backbone weights are not to be had here."""


class TrainingError(ModelError):
    """A training, evaluation or export run cannot start or go on."""
