"""Apache Kafka's jars: locked by version and SHA-256, fetched once through jgo, no Maven and no Java needed.

`kafka-jars.lock` has one line `group:artifact:version sha256` per jar. `python -m infra.stack.jars` writes it
anew from KAFKA and LOGGING; that is the only place where anything is resolved.
"""

import errno
import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Final, NamedTuple

from infra.errors import BrokerError

KAFKA: Final = "org.apache.kafka:kafka_2.13:4.3.0"
#: Kafka's own jars bring no logging back end; without one a broker that cannot start says nothing.
LOGGING: Final = "org.apache.logging.log4j:log4j-slf4j-impl:2.25.4"
LOCK: Final = Path(__file__).with_name("kafka-jars.lock")
#: What the jars take on disk, with one that is being fetched, MB.
_ROOM_MB: Final = 64
_ATTEMPTS: Final = 3
_FETCHERS: Final = 4
_TIMEOUT: Final = 30


class Jar(NamedTuple):
    """One locked artifact."""

    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def file(self) -> str:
        """File name in the folder of jars."""
        return f"{self.artifact}-{self.version}.jar"


def locked() -> list[Jar]:
    """The jars of the lock file, in class-path order."""
    jars = []
    for line in LOCK.read_text().splitlines():
        coordinate, sha256 = line.split()
        group, artifact, version = coordinate.split(":")
        jars.append(Jar(group, artifact, version, sha256))
    return jars


def folder() -> Path:
    """Where the jars of this lock file lie: in the virtual environment, without one in the user's cache."""
    name = f"kafka-{hashlib.sha256(LOCK.read_bytes()).hexdigest()[:12]}"
    own = Path(sys.prefix) / "share" / "skyfuse"
    shared = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "skyfuse"
    if (own / name).is_dir() or (sys.prefix != sys.base_prefix and os.access(sys.prefix, os.W_OK)):
        return own / name
    return shared / name


def present() -> bool:
    """Whether the jars are already here."""
    return folder().is_dir()


def fetch(progress: Callable[[int, int], None] | None = None) -> list[Path]:
    """Paths of all jars, fetched and checked where they are not here yet.

    `progress` is told (jars here, jars in all). Raises BrokerError where one cannot be had.
    """
    target, jars = folder(), locked()
    if not target.is_dir():
        target.parent.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(target.parent).free < _ROOM_MB * 1_000_000:
            raise BrokerError(_full(target.parent))
        staging = Path(tempfile.mkdtemp(prefix=target.name + ".", dir=target.parent))
        try:
            _fetch_into(staging, jars, progress)
            staging.chmod(0o755)
            if not target.is_dir():  # another process may have been faster
                staging.rename(target)
        except OSError as error:
            if not target.is_dir():
                raise BrokerError(f"cannot keep Kafka's jars in {target}: {error}") from error
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    return [target / jar.file for jar in jars]


def _fetch_into(staging: Path, jars: list[Jar], progress: Callable[[int, int], None] | None) -> None:
    with ThreadPoolExecutor(_FETCHERS) as fetchers:
        tasks = [fetchers.submit(_fetch_one, jar, staging) for jar in jars]
        try:
            for done, task in enumerate(as_completed(tasks), start=1):
                task.result()
                if progress is not None:
                    progress(done, len(jars))
        except BaseException:
            fetchers.shutdown(cancel_futures=True)
            raise


def _fetch_one(jar: Jar, staging: Path) -> None:
    # jgo takes a fifth of a second to import: only those who fetch pay for it.
    from jgo.constants import MAVEN_CENTRAL_URL
    from jgo.maven import MavenContext
    from requests import RequestException

    failure = ""
    for _ in range(_ATTEMPTS):
        # A cache of its own for each attempt: jgo takes what lies in its cache for whole.
        with tempfile.TemporaryDirectory(dir=staging) as cache:
            context = MavenContext(
                repo_cache=Path(cache), remote_repos={"central": MAVEN_CENTRAL_URL}, timeout=_TIMEOUT
            )
            component = context.project(jar.group, jar.artifact).at_version(jar.version)
            try:
                file = component.artifact().resolve()
            except (RequestException, RuntimeError, OSError) as error:
                if getattr(error, "errno", None) == errno.ENOSPC:
                    raise BrokerError(_full(staging.parent)) from error
                failure = str(error)
                continue
            digest = hashlib.sha256(file.read_bytes()).hexdigest()
            if digest == jar.sha256:
                file.replace(staging / jar.file)
                return
            failure = f"SHA-256 is {digest}, {LOCK.name} says {jar.sha256}"
    raise BrokerError(
        f"cannot fetch {jar.file} of Apache Kafka after {_ATTEMPTS} tries: {failure}. "
        "The first start needs Maven Central; to do without, set kafka.bootstrap to a broker of your own"
    )


def _full(folder: Path) -> str:
    free = shutil.disk_usage(folder).free // 1_000_000
    return (
        f"Apache Kafka takes {_ROOM_MB} MB in {folder}, and its disk has {free} MB free: make room; to do"
        " without, set kafka.bootstrap to a broker of your own"
    )


def _write_lock() -> None:
    from jgo.constants import MAVEN_CENTRAL_URL
    from jgo.env import EnvironmentBuilder
    from jgo.maven import MavenContext

    lines: dict[str, str] = {}
    # One by one: resolved together, a version managed by one mixes into the other (kafka-clients 3.9, seen).
    for endpoint in (KAFKA, LOGGING):
        with tempfile.TemporaryDirectory() as cache:
            context = MavenContext(repo_cache=Path(cache) / "m2", remote_repos={"central": MAVEN_CENTRAL_URL})
            builder = EnvironmentBuilder(context=context, cache_dir=Path(cache) / "jgo")
            lock = builder.from_endpoint(endpoint).lockfile
            if lock is None:
                raise BrokerError(f"jgo resolved {endpoint} without a lock file")
            for found in lock.dependencies:
                lines.setdefault(f"{found.groupId}:{found.artifactId}", f"{found.version} {found.sha256}")
    LOCK.write_text("".join(f"{name}:{rest}\n" for name, rest in lines.items()))


if __name__ == "__main__":
    _write_lock()
