"""`skyfuse replay`: history on disk through the pipeline, in topics of its own, to the last estimate."""

import uuid
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from cli.shared.options import Layout, TimezoneOption
from cli.shared.progress import shown
from cli.shared.running import running
from cli.shared.wording import counted
from datasets.layouts import Files
from infra.connect import with_broker
from infra.errors import StackError
from infra.stores import new_replay_store, show_replay
from settings.sections import RetentionSettings, Settings
from settings.values import FOREVER
from sinks.store import Store
from sources.replay.feed import ReplayProgress, ReplaySummary, feed
from sources.replay.outcome import RowsOutcome
from sources.replay.through import EndOffsets, await_read, ends, read_outcome
from streams import topics

#: Without any progress for this long, something is wrong.
_STUCK_SECONDS: Final = 180.0
#: Running workers commit every second: without any progress for this long, none is there.
_NOBODY_SECONDS: Final = 30.0
#: Exit codes: all rows were used; some were not, or not sent; sent, but no worker has read them yet.
USED, NOT_ALL_USED, NOT_READ = 0, 1, 3


def _speed(text: str) -> float | None:
    if text == "max":
        return None
    try:
        return float(text.removesuffix("x"))
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is neither max nor a number such as 60") from error


def replay(
    folder: Annotated[Path, typer.Argument(help="Frames and readings (docs/data-layout.md).")],
    format: Annotated[Layout, typer.Option(help="Layout of the folder.")] = Layout.plain,
    speed: Annotated[str, typer.Option(help="max, or event seconds per second: 60.")] = "max",
    feed_only: Annotated[
        bool, typer.Option("--feed-only", help="Only send, to the topics of running workers.")
    ] = False,
    timezone: TimezoneOption = None,
    store: Annotated[
        Path | None,
        typer.Option(
            help="Write the estimates into this store; without it, into a new one of the replay's own."
        ),
    ] = None,
) -> None:
    """Send history on disk through the pipeline, event time kept; without workers of its own: --feed-only.

    Exit code 0: every row was used; 1: some were late, refused or not sent (each is named), or it failed;
    2: wrong use or settings; 3 (--feed-only): sent, but no worker has read it yet.
    """
    history = Files(folder, format.value, timezone)
    history.require()
    if feed_only:
        if store is not None:
            raise typer.BadParameter("--store goes with workers of its own, not with --feed-only")
        raise typer.Exit(feed_live(with_broker(Settings()), history, _speed(speed)))
    raise typer.Exit(replay_alone(Settings(), history, _speed(speed), store))


def replay_alone(settings: Settings, history: Files, speed: float | None, store: Path | None) -> int:
    """Replay through workers and topics of its own; gives the exit code.

    `store`: where the estimates go; None: to a new file. Raises SourceError, StackError, TopicReadError.
    """
    console = _console()
    live = settings
    # Topics of its own: beside live data, history would be late by years. No cache: it is of what is now.
    prefix = f"{settings.kafka.prefix}replay-{datetime.now(UTC):%Y%m%d-%H%M%S}."
    target = store or settings.store or new_replay_store(settings, history.root)
    settings = settings.model_copy(
        update={
            "kafka": settings.kafka.model_copy(update={"prefix": prefix}),
            "window": settings.window.model_copy(update={"idle_timeout": None}),
            "redis": settings.redis.model_copy(update={"url": None}),
            # Of any time: what a replay is made for does not leave, however long its history is.
            "retention": RetentionSettings(windows=FOREVER, hours=FOREVER),
            "store": target,
        }
    )
    run = uuid.uuid4().hex[:12]
    notes: list[str] = []
    with ExitStack() as stack:

        def say(text: str) -> None:
            console.print(f"skyfuse: {text}", style="dim")

        pipeline = stack.enter_context(running(settings, say, notes.append, replay=True))
        with shown(console, "sending") as progress:

            def then(state: ReplayProgress) -> None:
                # By the first progress, the stations' records are there for the workers to find.
                pipeline.start_workers()
                progress(state)

            summary = feed(
                pipeline.settings, history.root, history.layout, zone=history.zone, run=run, speed=speed,
                progress=then,
            )  # fmt: skip
        pipeline.start_workers()
        console.print("skyfuse: all sent; waiting for the last estimates", style="dim")

        def meanwhile() -> None:
            pipeline.keep_broker(say)
            while notes:
                say(notes.pop(0))

        foretold: list[tuple[str, tuple[topics.Topic, ...]]] = [
            ("forecast", (topics.ESTIMATES,)), ("sink", (topics.FORECASTS,)),
        ]  # fmt: skip
        for role, inputs in (
            ("vision", (topics.FRAMES,)), ("fusion", (topics.FEATURES, topics.READINGS)),
            *([("network", (topics.ALONE,))] if pipeline.settings.network.enabled else []),
            ("sink", (topics.ESTIMATES,)),
            *(foretold if pipeline.settings.forecast.up else []),
        ):  # fmt: skip
            final = summary.last_ms if role in ("fusion", "network") else None
            if not await_read(
                pipeline.settings, role, inputs,
                patience=_STUCK_SECONDS, final_after_ms=final, meanwhile=meanwhile,
            ):  # fmt: skip
                logs = settings.data_dir / "log-replay"
                raise StackError(
                    f"nothing has moved for {_STUCK_SECONDS:.0f} s: see {role}.log and the others in {logs}"
                )
        outcome = read_outcome(pipeline.settings, run, {})
        estimates = sum(ends(pipeline.settings, topics.ESTIMATES).values())
    if target.exists():
        Store(target).close()  # the last to close it folds the journal in: the store is one file
        if store is None and live.store is None:
            show_replay(live, target)
    _report(console, summary, history)
    for note in notes:
        console.print(f"skyfuse: {note}", style="yellow")
    _tell(console, summary, outcome, f"{estimates} estimates", history)
    if outcome.others:
        console.print(f"skyfuse: {outcome.others} dead letters of estimates that a sink refused")
    if estimates:
        shown_by = (
            "skyfuse query"
            if target.resolve() == live.store_path.resolve()
            else f"skyfuse query --store {target}"
        )
        console.print(f"skyfuse: the estimates are in {target} ({shown_by})", style="dim")
    console.print(
        f"skyfuse: topics and dead letters are under {prefix}*"
        f" (SKYFUSE_KAFKA__PREFIX={prefix} skyfuse dlq list)",
        style="dim",
    )
    all_used = summary.whole and not (outcome.late.count or outcome.refusals or outcome.others)
    return USED if all_used else NOT_ALL_USED


def feed_live(settings: Settings, history: Files, speed: float | None) -> int:
    """Send to the topics of running workers, and wait until they have read it; gives the exit code.

    No watermark goes with it, so nothing is published or final for its sake: rows of windows that are final
    already are late, and told. Raises SourceError, TopicReadError.
    """
    console = _console()
    run = uuid.uuid4().hex[:12]
    begin = ends(settings, topics.LATE, topics.DEAD_LETTERS)
    with shown(console, "sending") as progress:
        summary = feed(
            settings, history.root, history.layout,
            zone=history.zone, run=run, live=True, speed=speed, progress=progress,
        )  # fmt: skip
    _report(console, summary, history)
    return _live_outcome(console, settings, history, summary, run, begin)


def _live_outcome(
    console: Console, settings: Settings, history: Files, summary: ReplaySummary, run: str, begin: EndOffsets
) -> int:
    read = await_read(settings, "vision", (topics.FRAMES,), patience=_NOBODY_SECONDS) and await_read(
        settings, "fusion", (topics.FEATURES, topics.READINGS), patience=_NOBODY_SECONDS
    )
    outcome = read_outcome(settings, run, begin)
    _tell(console, summary, outcome, "" if read else "not all of it read yet", history)
    if outcome.late.count:
        console.print(
            "skyfuse: windows that are final take nothing in;"
            f" `skyfuse backfill {history.root}` makes them again with it",
            style="yellow",
        )
    if not read:
        console.print(
            f"skyfuse: no worker has read on for {_NOBODY_SECONDS:.0f} s: what was sent waits on the topics"
            " for them (`skyfuse worker vision`, `skyfuse worker fusion`), and may turn out late",
            style="yellow",
        )
    if not summary.whole or outcome.late.count or outcome.refusals:
        return NOT_ALL_USED
    return USED if read else NOT_READ


def _console() -> Console:
    return Console(highlight=False, soft_wrap=True, markup=False)


def _report(console: Console, summary: ReplaySummary, history: Files) -> None:
    blank = f", {summary.blanks} empty cells (no measurement)" if summary.blanks else ""
    console.print(
        f"skyfuse: sent {counted(summary.frames, 'frame')} and {counted(summary.values, 'value')}"
        f" of {counted(summary.stations, 'station')}"
        f" from {history.root}{blank}"
    )
    for problem in summary.problems:
        console.print(f"skyfuse: {problem}", style="yellow")
    if summary.not_sent > len(summary.problems):
        console.print(f"skyfuse: and {summary.not_sent - len(summary.problems)} more", style="yellow")


def _tell(console: Console, summary: ReplaySummary, outcome: RowsOutcome, more: str, history: Files) -> None:
    """What became of the rows: each is used, late or refused, those by file and line."""
    for (code, _), refusal in outcome.refused.items():
        rows = refusal.rows
        hint = ""
        if code == "naive_time" and history.zone is None:
            hint = "; or say for all of them: --timezone Asia/Kolkata (any IANA zone)"
        count = f" ({rows.count} rows)" if rows.count > 1 else ""
        console.print(f"skyfuse: refused: {rows.text()}{count}: {refusal.reason}{hint}", style="yellow")
    if outcome.late.count:
        console.print(f"skyfuse: too late: {outcome.late.text()}", style="yellow")
    used = summary.frames + summary.values - outcome.late.count - outcome.refusals
    parts = [
        f"{max(0, used)} used", f"{outcome.late.count} late", f"{outcome.refusals} refused (dead letters)",
        f"{summary.not_sent} not sent",
    ]  # fmt: skip
    console.print(f"skyfuse: rows: {', '.join(parts)}{' · ' if more else ''}{more}")
