"""Draw the fans of docs/forecasts.md; needs the `train` extra (matplotlib) and a folder in the plain layout.

    python -m docs.plots.forecast FOLDER [BUNDLE]

Of all forecasts at noon and midnight (UTC) that have a week before and three days after them it draws three
of PM2.5: of those where the air changed much (persistence erred as in its worst quarter) and the mix's 90 %
interval held as it says, where the mix left least of persistence's error; where it lost most; and where the
air rose furthest above the interval.
"""

import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from forecast.bundle import DEFAULT_FORECAST_BUNDLE, ForecastBundle
from forecast.features import LOOKBACK
from forecast.folder import read_panel
from forecast.models import ForecastInputs
from forecast.panel import HORIZON

matplotlib.use("Agg")
from matplotlib import pyplot as plt

IMAGE = Path("docs/images/forecast-episodes.png")
#: Hours before that are shown, and hours of an episode that have to be measured.
_BEFORE = 48
_MEASURED = 60
#: Part of an episode's hours from which on its 90 % interval held.
_HELD = 0.9
#: Part of all forecasts that has those where the air changed much.
_TURNS = 0.25


def fan(axes: Any, title: str, before: Any, truth: Any, said: Any, begins: int) -> None:
    """What was measured, and the quantiles (72, 8) of what was foretold."""
    ahead, past = np.arange(1, HORIZON + 1), np.arange(1 - len(before), 1)
    axes.fill_between(ahead, said[:, 0], said[:, 6], color="#c6dbef", lw=0, label="90 %")
    axes.fill_between(ahead, said[:, 2], said[:, 4], color="#9ecae1", lw=0, label="50 %")
    axes.plot(ahead, said[:, 3], color="#08519c", lw=1.4, label="median")
    axes.plot(past, before, "k.-", ms=3, lw=0.6)
    axes.plot(ahead, truth, "k.-", ms=3, lw=0.6, label="measured")
    axes.axvline(0, color="0.6", lw=0.8)
    axes.set_title(f"{title}, {datetime.fromtimestamp(begins * 3600, UTC):%Y-%m-%d %H:%M}Z", fontsize=8)
    axes.set_ylabel("PM2.5, ug/m3", fontsize=8)
    axes.set_ylim(bottom=0)


def main() -> None:
    """Find three episodes and draw them."""
    folder, *bundle = map(Path, sys.argv[1:])
    panel, _ = read_panel(folder, int(time.time() * 1000))
    mix = ForecastBundle.load(*(bundle or [DEFAULT_FORECAST_BUNDLE])).models(256)[-1]
    inputs = ForecastInputs(panel)
    origins = np.arange(LOOKBACK - panel.begins % 12 - 1, panel.hours - HORIZON, 12)
    said = mix.predict(inputs, origins, range(1, HORIZON + 1))[..., 0, :]
    measured = panel.values[..., 0]
    truth = np.stack([measured[:, origins + hour] for hour in range(1, HORIZON + 1)], axis=2)
    last = measured[:, origins][..., None]
    hours = np.isfinite(truth).sum(axis=2)
    known = (hours >= _MEASURED) & np.isfinite(last[..., 0])
    carried, mixed = (
        np.where(known, np.nansum(np.abs(guess - truth), axis=2) / hours, np.nan)
        for guess in (last, said[..., 3])
    )
    held = ((truth >= said[..., 0]) & (truth <= said[..., 6])).sum(axis=2) / hours
    turned = carried >= np.nanquantile(carried, 1.0 - _TURNS)
    good = np.where(turned & (held >= _HELD), 1.0 - mixed / carried, -np.inf)
    missed = np.where(truth > said[..., 6], truth - said[..., 6], 0.0).sum(axis=2) / hours
    figure, rows = plt.subplots(3, 1, figsize=(9.0, 7.2), dpi=90)
    for axes, title, merit in zip(
        rows,
        ("A good one", "A bad one", "A turn that nobody saw"),
        (good, mixed - carried, missed),
        strict=True,
    ):
        row, at = np.unravel_index(np.argmax(np.where(known, merit, -np.inf)), merit.shape)
        origin = int(origins[at])
        fan(
            axes, f"{title}: {panel.stations[row]}", measured[row, origin + 1 - _BEFORE : origin + 1],
            truth[row, at], said[row, at], panel.begins + origin + 1,
        )  # fmt: skip
    rows[0].legend(fontsize=7, ncols=4)
    rows[-1].set_xlabel("hours from the forecast", fontsize=8)
    figure.tight_layout()
    figure.savefig(IMAGE)


if __name__ == "__main__":
    main()
