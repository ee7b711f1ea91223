"""What a backfill says of windows that the local store keeps no more."""

import io
from datetime import timedelta

from rich.console import Console

from backfill.report import BackfillReport
from backfill.windows import WindowOutcome
from cli.shared.backfilled import print_report
from schemas.times import DAY_MS
from settings.sections import RetentionSettings
from settings.values import FOREVER

NOW = 400 * DAY_MS


def told(kept: RetentionSettings) -> str:
    report = BackfillReport(
        [
            WindowOutcome(("a", NOW - 8 * DAY_MS), "rewrite", 3, 4),
            WindowOutcome(("a", NOW - 8 * DAY_MS + 60_000), "counted", 3, 3),
            WindowOutcome(("a", NOW - 8 * DAY_MS + 120_000), "rewrite", 0, 4),  # nobody had it: it counts
            WindowOutcome(("a", NOW - 6 * DAY_MS), "rewrite", 3, 4),
        ],
        newest=NOW,
    )
    out = io.StringIO()
    print_report(Console(file=out, width=300), report, None, False, kept)
    return out.getvalue()


def test_revisions_of_windows_that_have_left_are_told() -> None:
    assert "not in the local store: 1 window is older than it keeps windows (retention.windows, 7 d)" in told(
        RetentionSettings()
    )
    assert "not in the local store: 2 windows are older" in told(RetentionSettings(windows=timedelta(days=2)))
    for length in (timedelta(days=9), FOREVER):
        assert "local store" not in told(RetentionSettings(windows=length, hours=FOREVER))
