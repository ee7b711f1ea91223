"""What became of a backfill, in words."""

from rich.console import Console
from rich.markup import escape

from backfill.report import BackfillReport
from backfill.run import UNASKED_MS
from cli.shared.wording import counted
from datasets.layouts import Files
from schemas.base import format_time, from_ms
from schemas.times import DAY_MS
from settings.sections import RetentionSettings


def _why_open(report: BackfillReport, files: Files | None) -> str:
    """What is to be said of the windows that are not final."""
    live = (
        "" if files is None else f"send the files like live data: `skyfuse replay {files.root} --feed-only`"
    )
    if report.never_fused:
        return (
            f"{_are(len(report.open))} not final: no fusion worker has ever read on this broker. Start one"
            " (`skyfuse up`, or `skyfuse worker fusion`) and run again" + (f", or {live}" if live else "")
        )
    said = []
    waiting, stranded = len(report.open) - len(report.stranded), len(report.stranded)
    if waiting:
        said.append(f"{_are(waiting)} not final yet: run again later")
    if stranded:
        it = "it" if stranded == 1 else "them"
        said.append(
            f"{_are(stranded)} not final, and waiting does not make {it} so: nothing newer has come on the"
            f" partition. To count {it}, {live or 'wait for newer data of the stations there'}"
        )
    return "; ".join(said)


def _are(windows: int) -> str:
    return f"{counted(windows, 'window')} {'is' if windows == 1 else 'are'}"


def print_report(
    console: Console,
    report: BackfillReport,
    files: Files | None,
    dry_run: bool,
    kept: RetentionSettings,
    annotated_only: bool = False,
) -> None:
    """Say what a run found and did; `kept`: how long the local store keeps windows."""
    for outcome in report.outcomes:
        station, end = outcome.key
        what = f"{station} {format_time(from_ms(end))}"
        if outcome.verdict == "impossible":
            console.print(f"[yellow]not possible:[/yellow] {escape(f'{what}: {outcome.reason}')}")
        elif outcome.verdict == "rewrite" and dry_run:
            before = f"revision {outcome.before}" if outcome.before else "no estimate"
            console.print(escape(f"{what}: {before} -> revision {outcome.after}"))
    for problem in report.problems:
        console.print(f"[yellow]cannot be used:[/yellow] {escape(str(problem))}")
    for text in report.unusable:
        console.print(f"[yellow]cannot be used:[/yellow] {escape(text)}")
    if report.open:
        console.print(escape(_why_open(report, files)))
    rewritten = "to rewrite" if dry_run else "rewritten"
    if files is not None:
        added = "to add" if dry_run else "added"
        text = (
            f"{files.root}: {report.added} inputs {added}, {report.known} known already,"
            f" {report.left} of windows left alone, {len(report.problems)} that cannot be used"
        )
        console.print(escape(text))
    for station, (count, first, last) in sorted(report.of_old.items()):
        times = " to ".join(dict.fromkeys(format_time(from_ms(at)) for at in (first, last)))
        text = (
            f"{station}: {count} late values of {times} are left alone: more than"
            f" {UNASKED_MS // DAY_MS} days old when they came, as of a clock that was wrong"
            " (`--since TIME` counts them)"
        )
        console.print(f"[yellow]left alone:[/yellow] {escape(text)}")
    total = len(report.outcomes) + len(report.open)
    of_what = "invalidated" if report.annotated else ""
    if files is None and not (annotated_only and report.annotated):
        of_what = "late or invalidated" if of_what else "late"
    console.print(
        f"{counted(total, 'window')}{f' with {of_what} data' if of_what else ''}:"
        f" {report.count('rewrite')} {rewritten},"
        f" {report.count('counted')} counted already, {len(report.open)} not final yet,"
        f" {report.count('impossible')} not possible"
    )
    older = report.older(kept.windows)
    if older:
        console.print(
            f"[yellow]not in the local store:[/yellow] {_are(older)} older than it keeps windows"
            f" (retention.windows, {kept.windows.days} d): where they have left, its hours and days stay as"
            " they were. InfluxDB and other consumers get the revisions"
        )
    if report.healed or report.amended:
        verbs = ("to publish", "to tell") if dry_run else ("published", "told")
        stations = counted(len(report.amended), "station")
        console.print(
            f"their averages: {counted(report.healed, 'window')} after them {verbs[0]} again,"
            f" the fusion worker {verbs[1]} of {stations}"
        )
    if report.in_progress:
        console.print(
            f"{report.in_progress} of their hours are still in progress: the worker's averages get them when"
            " `skyfuse backfill` runs after they are over"
        )
