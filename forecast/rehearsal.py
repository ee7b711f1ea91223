"""What the stream would have published, from one origin after another, learning on the way as it does.

The same pieces as in `forecast.outlook`, over a folder: the last of the models is corrected by what came true
at each station (`forecast.local`), and of all who foretell the one speaks that did best there lately
(`forecast.contest`). Calibration comes after.
"""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from forecast.contest import as_kept, counted, leaders
from forecast.features import OriginFeatures
from forecast.local import KEPT, Lessons, LocalRows, corrected, local_rows
from forecast.panel import QUANTILES
from schemas.arrays import Float32, Int64

_MEDIAN: Final = QUANTILES.index(0.5)


def rehearsed(
    said: Sequence[Float32], truth: Float32, features: OriginFeatures, origins: Int64,
    horizons: tuple[int, ...], typical: tuple[float, ...], step: int,
) -> Iterator[Float32]:  # fmt: skip
    """The last of `said` (stations, origins, horizons, pollutants, 8) as corrected at the stations; then what
    would have been published, before calibration. `truth` (stations, origins, horizons, pollutants); the
    `origins` are `step` hours apart.
    """
    base = said[-1]
    medians = as_kept(np.stack([one[..., _MEDIAN] for one in said], axis=-1))
    stations, _, count, pollutants = truth.shape
    lessons = Lessons.of(stations, count)
    errors = np.zeros((stations, count, pollutants, len(said) + 1))
    hours = np.zeros((stations, count, pollutants))
    local, published = np.empty_like(base), np.empty_like(base)
    kept = np.empty((*base.shape[:-1], KEPT), np.float16)
    own_medians: NDArray[np.float16] = np.empty(base.shape[:-1], np.float16)
    rows = [local_rows(features, typical, origins, horizon) for horizon in horizons]
    for origin in range(len(origins)):
        for place, horizon in enumerate(horizons):
            # The latest origin whose hour, this far ahead, has come by now; each is learned from once.
            come = origin - -(-horizon // step)
            if come >= 0:
                outcome = truth[:, come, place]
                then = LocalRows(rows[place].terms[:, come], rows[place].last[:, come])
                lessons.learn(place, then, kept[:, come, place], outcome, typical, step)
                all_said = np.concatenate(
                    [medians[:, come, place], own_medians[:, come, place, :, None]], axis=-1
                )
                errors[:, place], hours[:, place] = counted(
                    errors[:, place], hours[:, place], all_said, outcome, step
                )
        now = LocalRows(
            np.stack([one.terms[:, origin] for one in rows], axis=1),
            np.stack([one.last[:, origin] for one in rows], axis=1),
        )
        by = lessons.correction(horizons, lessons.leaning(horizons, features.panel.regions))
        local[:, origin], kept[:, origin] = corrected(base[:, origin], now, by)
        own_medians[:, origin] = as_kept(local[:, origin, ..., _MEDIAN])
        speakers = leaders(errors, hours, np.array(horizons)[:, None])
        published[:, origin] = local[:, origin]
        for place, one in enumerate(said):
            published[:, origin] = np.where(
                (speakers == place)[..., None], one[:, origin], published[:, origin]
            )
    yield local
    yield published
