"""Picture files that a folder's list names: of the folder only, and never read before their size is known."""

import errno
import stat
from pathlib import Path

from streams.topics import FRAMES


def inside(folder: Path, stated: str) -> Path | str:
    """The file that `stated` names in `folder`, or in words why it is not sent.

    A list may come from anywhere, and what it names goes to Kafka: a path that leads out of the folder, by
    itself or by a symbolic link, is none of its pictures.
    """
    try:
        file = folder / stated
        if not file.resolve().is_relative_to(folder.resolve()):
            return f"frame {stated} lies outside of {folder}: copy it into the folder"
        if not stated or not file.is_file():
            return f"frame {stated or '(no path)'} does not exist"
    except (OSError, ValueError, RuntimeError) as error:  # too long, a null character, links in a circle
        return f"frame {stated[:200]!r} is no path: {error}"
    return file


def read_picture(file: Path) -> bytes:
    """The bytes of a picture. OSError where it cannot be read, or is more than its topic takes."""
    found = file.stat()
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is no plain file")
    if found.st_size > FRAMES.max_bytes:
        raise OSError(errno.EFBIG, f"{found.st_size} bytes are more than the broker takes")
    with file.open("rb") as handle:
        return handle.read(FRAMES.max_bytes + 1)
