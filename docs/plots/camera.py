"""Draw the figures of docs/camera.md; needs the `train` extra (matplotlib) and ../shared/data/milan-webcam.

Run from the checkout: python -m docs.plots.camera
"""

from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import matplotlib
import numpy as np

from model.bundle.bundle import Bundle
from model.evaluation.histories import read_milan
from model.evaluation.online import evaluate_online
from model.evaluation.online_report import OnlineReport, ProtocolScore

matplotlib.use("Agg")
from matplotlib import pyplot as plt

IMAGES = Path("docs/images")
DATA = Path("../shared/data/milan-webcam")


def days(outcome: ProtocolScore, path: Path) -> None:
    """Measured and estimated hours, day beside day, with the 90 % interval."""
    figure, axes = plt.subplots(figsize=(9.0, 2.8), dpi=90)
    rome = ZoneInfo("Europe/Rome")
    dates = [datetime.fromtimestamp(row[0] / 1000, UTC).astimezone(rome).date() for row in outcome.series]
    at = np.arange(len(dates), dtype=float)
    starts = [index for index in range(len(dates)) if index == 0 or dates[index] != dates[index - 1]]
    for number, start in enumerate(starts):
        end = starts[number + 1] if number + 1 < len(starts) else len(dates)
        part = slice(start, end)
        _, truth, value, low, high = np.array(outcome.series[part]).T
        axes.fill_between(
            at[part], low, high, color="#9ecae1", lw=0, label="90 % interval" if not start else None
        )
        axes.plot(
            at[part], value, color="#08519c", lw=1.4, label="camera, sensor silent" if not start else None
        )
        axes.plot(at[part], truth, "k.", ms=3.5, label="sensor" if not start else None)
        axes.axvline(start - 0.5, color="0.85", lw=0.7, zorder=0)
    # Days of an hour or two leave no room for a label of their own.
    named = [
        index for index, after in zip(starts, [*starts[1:], len(dates)], strict=True) if after - index > 2
    ]
    axes.set_xticks(named, [f"{dates[index]:%d %b}" for index in named], rotation=90, fontsize=7)
    axes.set_ylabel("PM2.5, ug/m3")
    axes.set_xlim(-0.5, len(dates) - 0.5)
    axes.set_ylim(0, 100)
    axes.legend(fontsize=7, ncols=3)
    figure.tight_layout()
    figure.savefig(path)


def outages(report: OnlineReport, path: Path) -> None:
    """RMSE by length of the outage, beside the rivals that are of the same size."""
    figure, axes = plt.subplots(figsize=(5.4, 2.6), dpi=90)
    names = ("virtual sensor", "last value", "hour-of-day mean")
    at = np.arange(len(report.outcomes))
    for number, (name, colour) in enumerate(zip(names, ("#08519c", "#969696", "#d9d9d9"), strict=True)):
        values = [outcome.skills[name].rmse for outcome in report.outcomes]
        axes.bar(at + (number - 1) * 0.27, values, 0.26, color=colour, label=name)
    axes.set_xticks(at, [outcome.name for outcome in report.outcomes])
    axes.set_ylabel("RMSE, ug/m3")
    axes.set_xlabel("sensor silent for")
    axes.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path)


def main() -> None:
    """Evaluate and draw."""
    report = evaluate_online(read_milan(DATA), Bundle.load())
    IMAGES.mkdir(exist_ok=True)
    days(report.outcomes[0], IMAGES / "camera-next-day.png")
    outages(report, IMAGES / "camera-outages.png")


if __name__ == "__main__":
    main()
