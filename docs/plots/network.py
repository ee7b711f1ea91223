"""Draw the figures of docs/network.md from what `skyfuse evaluate --network FOLDER --json` wrote; needs the
`train` extra (matplotlib).

Run from the checkout: python -m docs.plots.network FILE
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

from model.evaluation.region import RIVALS
from schemas.parameters import LABELS, POLLUTANTS

matplotlib.use("Agg")
from matplotlib import pyplot as plt

IMAGES = Path("docs/images")
SILENCES = ("one sensor", "whole station")
_COLOURS = ("#08519c", "#bdbdbd", "#d9b38c", "#74c476", "#fd8d3c", "#9e9ac8")


def _length(hours: int) -> str:
    return f"{hours // 24} d" if hours >= 24 else f"{hours} h"


def _of(outcomes: Sequence[dict[str, Any]], silence: str, pollutant: str) -> list[dict[str, Any]]:
    found = [one for one in outcomes if (one["silence"], one["pollutant"]) == (silence, pollutant)]
    return sorted(found, key=lambda one: one["hours"])


def outages(outcomes: Sequence[dict[str, Any]], path: Path) -> None:
    """PM2.5: RMSE by length of the outage, of the region and of each witness alone."""
    figure, axes = plt.subplots(1, len(SILENCES), figsize=(9.0, 3.0), dpi=90, sharey=True)
    for axis, silence in zip(axes, SILENCES, strict=True):
        rows = _of(outcomes, silence, "pm25")
        for name, colour in zip(("network", *RIVALS), _COLOURS, strict=True):
            known = [
                (at, one["skills"][name]["rmse"]) for at, one in enumerate(rows) if name in one["skills"]
            ]
            if known:
                width = 2.4 if name == "network" else 1.3
                axis.plot(*zip(*known, strict=True), "o-", color=colour, lw=width, ms=3.5, label=name)
        axis.set_xticks(range(len(rows)), [_length(one["hours"]) for one in rows])
        axis.set_xlabel(f"{silence} silent for")
        axis.set_ylim(bottom=0)
    axes[0].set_ylabel("PM2.5: RMSE, ug/m3")
    figure.tight_layout(rect=(0, 0, 1, 0.91))
    figure.legend(*axes[0].get_legend_handles_labels(), loc="upper center", ncols=6, fontsize=7)
    figure.savefig(path)


def coverage(outcomes: Sequence[dict[str, Any]], path: Path) -> None:
    """Each pollutant: share of hours within the 90 % interval, and in the worst month."""
    figure, axes = plt.subplots(1, len(SILENCES), figsize=(9.0, 3.0), dpi=90, sharey=True)
    for axis, silence in zip(axes, SILENCES, strict=True):
        rows = []
        for pollutant, colour in zip(POLLUTANTS, _COLOURS, strict=True):
            rows = _of(outcomes, silence, pollutant)
            at = range(len(rows))
            axis.plot(
                at, [one["coverage"] for one in rows], "o-", color=colour, ms=3.5, label=LABELS[pollutant]
            )
            axis.plot(at, [one["worst_month"] for one in rows], "v", color=colour, ms=4, mfc="none")
        axis.axhspan(0.88, 0.92, color="0.9", zorder=0)
        axis.set_xticks(range(len(rows)), [_length(one["hours"]) for one in rows])
        axis.set_xlabel(f"{silence} silent for")
    axes[0].set_ylabel("within the 90 % interval")
    figure.tight_layout(rect=(0, 0, 1, 0.91))
    figure.legend(*axes[0].get_legend_handles_labels(), loc="upper center", ncols=6, fontsize=7)
    figure.savefig(path)


def main(file: Path) -> None:
    """Draw both."""
    outcomes = json.loads(file.read_text())["outcomes"]
    IMAGES.mkdir(exist_ok=True)
    outages(outcomes, IMAGES / "network-outages.png")
    coverage(outcomes, IMAGES / "network-coverage.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
