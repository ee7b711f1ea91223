"""The alert rules that are in force: a file that people edit while the worker runs."""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

from alerting.errors import RulesError
from alerting.rules import AlertRules, default, parse
from streams import metrics

log = logging.getLogger(__name__)


def load(path: Path | None) -> AlertRules:
    """The rules in the file `path`, the default set where it is None. Raises RulesError."""
    if path is None:
        return default()
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RulesError(f"the alert rules {path} cannot be read: {_cause(error)}") from error
    return parse(text, str(path))


class RulesSource:
    """The rules of a file, read again when it changes; the default set without a file.

    The first read raises RulesError. Later a file that is wrong, empty or gone leaves the rules before in
    force, and is complained about once per change: a typing mistake must not end the watch.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._stamp = self._look()
        self._rules = load(path)
        metrics.ALERT_RULES_REFUSED.set(0)

    @classmethod
    def when_right(cls, path: Path | None, wait: Callable[[float], None] = time.sleep) -> Self:
        """The rules of `path`, as soon as they can be read: a worker that starts waits for their mending.

        Ending would have a supervisor start it again, later and later, while the mistake is long mended.
        """
        said = ""
        while True:
            try:
                return cls(path)
            except RulesError as error:
                if str(error) != said:
                    said = str(error)
                    log.error("no alert is watched for until the rules are mended:\n%s", error)
            wait(1.0)

    def __call__(self) -> AlertRules:
        """The rules in force now."""
        stamp = self._look()
        if self._path is not None and stamp != self._stamp:
            self._stamp = stamp
            try:
                self._rules = load(self._path)
                log.info("alert rules read again from %s", self._path)
                metrics.ALERT_RULES_REFUSED.set(0)
            except RulesError as error:
                metrics.ALERT_RULES_REFUSED.set(1)
                log.error("the changed alert rules are not used, those before stay in force:\n%s", error)
        return self._rules

    def _look(self) -> tuple[int, ...] | None:
        if self._path is None:
            return None
        try:
            found = self._path.stat()
        except OSError:
            return None
        # The change time too: a right to read that is given back changes nothing else.
        return found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_size


def _cause(error: OSError | UnicodeDecodeError) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else "it is not UTF-8"
