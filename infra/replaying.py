"""`skyfuse replay`: history on disk through the pipeline, in topics of its own, to the last estimate."""

import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from kafka import TopicPartition  # type: ignore[import-untyped]
from kafka.admin import OffsetSpec  # type: ignore[import-untyped]
from kafka.errors import KafkaError  # type: ignore[import-untyped]
from rich.console import Console

from infra.errors import StackError
from infra.replay.display import shown
from infra.replay.feed import Progress, Summary, feed
from infra.settings import Settings
from infra.up import Running, running
from streams import topics
from streams.admin import admin_client
from streams.errors import TopicError
from streams.join import Settled

_POLL_SECONDS: Final = 0.5
#: Without any progress for this long, something is wrong.
_STUCK_SECONDS: Final = 180.0


def replay(settings: Settings, root: Path, layout: str, speed: float | None, feed_only: bool) -> int:
    """Replay a folder. Exit code 0: all of it was sent and estimated; 1: see the summary."""
    console = Console()
    if feed_only:
        with shown(console, "sending") as progress:
            summary = feed(settings, root, layout, speed=speed, progress=progress)
        _report(console, summary)
        return summary.exit_code
    # Topics of its own: beside live data, history would be late by years.
    prefix = f"{settings.kafka.prefix}replay-{datetime.now(UTC):%Y%m%d-%H%M%S}."
    settings = settings.model_copy(
        update={
            "kafka": settings.kafka.model_copy(update={"prefix": prefix}),
            "window": settings.window.model_copy(update={"idle_timeout": None}),
        }
    )
    notes: list[str] = []
    with ExitStack() as stack:
        say = lambda text: console.print(f"skyfuse: {text}", style="dim")  # noqa: E731
        pipeline = stack.enter_context(running(settings, say, notes.append, replay=True))
        with shown(console, "sending") as progress:

            def then(state: Progress) -> None:
                # By the first progress, the stations' records are there for the workers to find.
                pipeline.start_workers()
                progress(state)

            summary = feed(pipeline.settings, root, layout, speed=speed, progress=then)
        pipeline.start_workers()
        console.print("skyfuse: all sent; waiting for the last estimates", style="dim")
        last = summary.last_ms
        if last is not None:
            _await(pipeline, last, notes, say)
        pipeline.pipeline.read()
        _report(console, summary)
        for note in notes:
            console.print(f"skyfuse: {note}", style="yellow", highlight=False)
        console.print(f"skyfuse: {pipeline.pipeline.line()}", highlight=False)
        console.print(
            f"skyfuse: estimates are in {settings.store_path} (skyfuse query), topics and dead letters under"
            f" {prefix}* (SKYFUSE_KAFKA__PREFIX={prefix} skyfuse dlq list)",
            style="dim",
            highlight=False,
        )
    return summary.exit_code


def _report(console: Console, summary: Summary) -> None:
    console.print(
        f"skyfuse: sent {summary.frames} frames and {summary.readings} readings"
        f" of {summary.stations} stations, {summary.values} values",
        highlight=False,
    )
    for problem in summary.problems:
        console.print(f"skyfuse: {problem}", style="yellow", highlight=False)


def _await(running: Running, last_ms: int, notes: list[str], say: Callable[[str], None]) -> None:
    """Return when every stage has settled everything. StackError when nothing moves any more."""
    moved, before = time.monotonic(), None
    while True:
        running.keep_broker(say)
        state = _progress(running.settings)
        if state is not None and _complete(state, last_ms):
            return
        if state != before:
            moved, before = time.monotonic(), state
        if time.monotonic() - moved > _STUCK_SECONDS:
            logs = running.settings.data_dir / "log-replay"
            raise StackError(f"nothing has moved for {_STUCK_SECONDS:.0f} s: see the logs in {logs}")
        while notes:
            say(notes.pop(0))
        time.sleep(_POLL_SECONDS)


State = dict[tuple[str, str, int], tuple[int, int, int]]


def _progress(settings: Settings) -> State | None:
    """Per (group, topic, partition): position, end of the log, horizon of final windows."""
    prefix, partitions = settings.kafka.prefix, range(settings.kafka.partitions)
    wanted = {
        "vision": (topics.FRAMES,), "fusion": (topics.FEATURES, topics.READINGS), "sink": (topics.ESTIMATES,),
    }  # fmt: skip
    found: State = {}
    try:
        with admin_client(settings.kafka) as client:
            for role, inputs in wanted.items():
                group = f"{prefix}skyfuse-{role}"
                tps = [TopicPartition(prefix + topic.name, p) for topic in inputs for p in partitions]
                committed: dict[Any, Any] = client.list_group_offsets({group: tps})[group]
                ends = client.list_partition_offsets(dict.fromkeys(tps, OffsetSpec.LATEST))
                for tp in tps:
                    kept = committed.get(tp)
                    settled = (
                        None if kept is None or kept.offset < 0 else Settled.parse(kept.offset, kept.metadata)
                    )
                    found[role, tp.topic, tp.partition] = (
                        # How far it has read; the settled offset stays behind while windows may be revised.
                        -1 if settled is None else settled.position,
                        ends[tp].offset,
                        0 if settled is None else settled.done,
                    )
    except (TopicError, KafkaError):
        return None  # the broker is restarting, or a group does not exist yet: `_await` gives up in time
    return found


def _complete(state: State, last_ms: int) -> bool:
    return all(
        max(offset, 0) >= end and (role != "fusion" or done > last_ms)
        for (role, _, _), (offset, end, done) in state.items()
    )
