"""The shipped bundle with a few of its trees: what a test waits for is not what they know."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

from forecast.bundle import DEFAULT_FORECAST_BUNDLE, ForecastBundle, write_forecast_bundle
from forecast.trees import Forest

_TREES = 3


@cache
def small_bundle() -> Path:
    """Its folder."""
    whole = ForecastBundle.load(DEFAULT_FORECAST_BUNDLE)
    tables, folder = whole.tables, Path(mkdtemp(prefix="skyfuse-forecast-"))
    trees = tables.trees
    forests, first, near, middle = (
        {key: tuple(map(_few, some)) for key, some in kept.items()}
        for kept in (trees.forests, trees.first, trees.near, trees.middle)
    )
    write_forecast_bundle(
        folder, "small", "1", [(entry, whole.graphs[entry.file]) for entry in whole.manifest.networks],
        replace(tables, trees=replace(trees, forests=forests, first=first, near=near, middle=middle)),
        whole.normalisation, whole.manifest.training,
    )  # fmt: skip
    return folder


def _few(forest: Forest) -> Forest:
    end = int(forest.roots[_TREES])
    return replace(
        forest, roots=forest.roots[:_TREES],
        **{
            name: getattr(forest, name)[:end]
            for name in ("feature", "threshold", "missing_left", "left", "right", "value")
        },
    )  # fmt: skip
