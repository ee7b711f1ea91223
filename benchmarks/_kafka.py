"""What the benchmarks on Kafka share: a broker of their own, and a log to drain."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from infra.stack.broker import EmbeddedBroker
from settings.sections import KafkaSettings, Settings
from streams.admin import create_topics

PARTITIONS = 4


@contextmanager
def fresh_broker() -> Iterator[Settings]:
    """Settings for an embedded broker with empty topics."""
    with tempfile.TemporaryDirectory() as folder, EmbeddedBroker(Path(folder) / "kafka") as broker:
        kafka = KafkaSettings(bootstrap=broker.bootstrap, partitions=PARTITIONS)
        settings = Settings(data_dir=Path(folder) / "data", kafka=kafka)
        create_topics(settings)
        yield settings


def child(module: str, *arguments: str) -> dict[str, Any]:
    """Run `python -m module arguments` and read the JSON of its last line."""
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def verdict(name: str, value: float, unit: str, baseline: float, ratio: float, **more: Any) -> None:
    """The closing line."""
    rounded = {key: round(number, 4) if isinstance(number, float) else number for key, number in more.items()}
    print(
        json.dumps(
            {
                "name": name,
                "value": round(value, 4),
                "unit": unit,
                "baseline": round(baseline, 4),
                "ratio": round(ratio, 4),
                **rounded,
            }
        )
    )
