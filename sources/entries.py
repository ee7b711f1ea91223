"""What a gateway fetches by itself, as its operator lists it in a TOML file.

    [[camera]]      a picture every so often: `snapshot`, `mjpeg`, `stream` or `folder`
    [[folder]]      files of readings that are put there
    [[pull]]        an address that is asked for readings

docs/ingest.md shows each. A password stands in the file itself or, better, in a file that it names.
"""

import re
import tomllib
from collections.abc import Iterable
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator

from camera.image import Area
from datasets.errors import SourceError
from schemas.base import DeviceId, StationId
from schemas.duration import Duration
from schemas.secret import SecretError, tidy_password
from schemas.zone import ZoneName
from sources.adapters import adapters

#: Where a URL of times has the beginning and the end of what is asked.
SINCE: Final = "{since}"
UNTIL: Final = "{until}"
#: Where a URL of pages has the number of one, from 1 on.
PAGE: Final = "{page}"
_SECOND: Final = timedelta(seconds=1)
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}")


def _address(schemes: tuple[str, ...]) -> AfterValidator:
    def check(url: str) -> str:
        try:
            parts = urlsplit(url)
            _ = parts.port
        except ValueError:
            parts = None
        if parts is None or parts.scheme not in schemes or not parts.hostname or not url.isprintable():
            raise ValueError(f"is no address that begins with {' or '.join(f'{one}://' for one in schemes)}")
        if "@" in parts.netloc:
            raise ValueError("has a user in it: put it into `username` and `password_file`")
        return url

    return AfterValidator(check)


def _a_second(length: timedelta) -> timedelta:
    if length < _SECOND:
        raise ValueError("is shorter than a second")
    return length


def _adapter(name: str) -> str:
    if name not in adapters():
        raise ValueError(f"there is no adapter {name!r}: `skyfuse adapters list`")
    return name


def _plain_name(name: str) -> str:
    if _NAME.fullmatch(name) is None:
        raise ValueError("a name has letters, digits, blanks, and . _ -")
    return name


_Web = Annotated[str, _address(("http", "https"))]
_Every = Annotated[Duration, AfterValidator(_a_second)]
_AdapterName = Annotated[str, AfterValidator(_adapter)]
_PlainName = Annotated[str, AfterValidator(_plain_name)]


class _SourceEntry(BaseModel):
    # What is wrong is said without what was given: it may be a secret.
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class AskedEntry(_SourceEntry):
    """Somebody to be asked, who may want to know who asks."""

    username: str | None = None
    password: SecretStr | None = None
    password_file: Path | None = None
    #: Whether its address may be one of a private network, or of this machine.
    local: bool = False
    timeout: Annotated[Duration, AfterValidator(_a_second)] = timedelta(seconds=15)

    @model_validator(mode="after")
    def _one_password(self) -> "AskedEntry":
        if self.password is not None and self.password_file is not None:
            raise ValueError("password and password_file are both set: keep one of them")
        if (self.password or self.password_file) and self.username is None:
            raise ValueError("a password without a username: set both")
        return self

    def credentials(self) -> tuple[str, str] | None:
        """User and password, the file read anew; None: it asks for none. Raises SourceError."""
        if self.username is None:
            return None
        text = "" if self.password is None else self.password.get_secret_value()
        if self.password_file is not None:
            try:
                text = self.password_file.read_text()
            except (OSError, UnicodeDecodeError):
                raise SourceError(f"the password file {self.password_file} cannot be read") from None
        try:
            return self.username, tidy_password(text)
        except SecretError as error:
            raise SourceError(f"the password {error}") from None


class CameraEntry(AskedEntry):
    """`[[camera]]`: a camera of a station, and how its pictures are had."""

    station: StationId
    camera: DeviceId = "main"
    #: One of these four.
    snapshot: _Web | None = None
    mjpeg: _Web | None = None
    stream: Annotated[str, _address(("rtsp", "rtsps"))] | None = None
    folder: Path | None = None
    every: _Every = timedelta(seconds=60)
    #: Between two pictures while the sun is down; "off": none then.
    night: _Every | Literal["off"] = "off"
    #: Where it stands, degrees; without, where its station's record says.
    latitude: Annotated[float, Field(ge=-90, le=90)] | None = None
    longitude: Annotated[float, Field(ge=-180, le=180)] | None = None
    #: Left, top, right and bottom edge of what is kept, as shares of width and height.
    crop: tuple[float, float, float, float] | None = None

    @model_validator(mode="after")
    def _one_way(self) -> "CameraEntry":
        ways = [name for name in ("snapshot", "mjpeg", "stream", "folder") if getattr(self, name) is not None]
        if len(ways) != 1:
            raise ValueError(
                f"camera {self.name} needs one of snapshot, mjpeg, stream, folder; it has"
                f" {' and '.join(ways) or 'none'}"
            )
        if self.stream is not None and not self.local:
            raise ValueError(
                f"camera {self.name}: a stream is opened by FFmpeg, which goes where the camera sends it; say"
                " `local = true` where you trust it"
            )
        if (self.latitude is None) != (self.longitude is None):
            raise ValueError("latitude and longitude belong together: set both")
        if self.crop is not None:
            left, top, right, bottom = self.crop
            if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
                raise ValueError(
                    "crop is [left, top, right, bottom], shares from 0 to 1: 0 <= left < right <= 1,"
                    " 0 <= top < bottom <= 1"
                )
        return self

    @property
    def name(self) -> str:
        """Station and camera, for people."""
        return f"{self.station}/{self.camera}"

    @property
    def area(self) -> Area | None:
        """What is kept of a picture; None: all."""
        return None if self.crop is None else Area(*self.crop)


class FolderEntry(_SourceEntry):
    """`[[folder]]`: files of readings are put into it by something else."""

    path: Path
    #: What knows them; without, they are skyfuse's own tables and messages.
    adapter: _AdapterName | None = None
    station: StationId | None = None
    zone: ZoneName | None = None
    #: For how long a file has not grown when it is taken to be whole.
    quiet: _Every = timedelta(seconds=5)


class PullEntry(AskedEntry):
    """`[[pull]]`: an address that is asked for readings."""

    name: _PlainName
    url: _Web
    adapter: _AdapterName
    station: StationId | None = None
    zone: ZoneName | None = None
    every: _Every = timedelta(minutes=5)
    headers: dict[str, SecretStr] = Field(default_factory=dict)
    #: How times are written into `{since}` and `{until}`: ISO 8601, seconds or milliseconds since 1970.
    times: Literal["iso", "s", "ms"] = "iso"
    #: At most so much is asked at a time, and so far before the last answer.
    span: _Every = timedelta(days=1)
    overlap: Duration = timedelta(minutes=5)
    #: The longest outage that is made up for.
    back: Duration = timedelta(days=7)
    #: Rows of a whole page where the url has `{page}`: one with fewer is the last. Without, an empty one is.
    page_size: Annotated[int, Field(ge=1, le=1_000_000)] | None = None

    @model_validator(mode="after")
    def _headers_can_be(self) -> "PullEntry":
        for key, value in self.headers.items():
            if not re.fullmatch(r"[A-Za-z0-9-]{1,64}", key) or not value.get_secret_value().isprintable():
                raise ValueError(
                    f"header {key[:64]!r}: a name of letters, digits and -, and a printable value"
                )
        if UNTIL in self.url and SINCE not in self.url:
            raise ValueError("a url with {until} needs {since}")
        if self.page_size is not None and PAGE not in self.url:
            raise ValueError("page_size belongs to a url with {page}")
        return self

    @property
    def of_times(self) -> bool:
        """Whether it is asked for a stretch of time, and goes on where it was."""
        return SINCE in self.url


class Entries(_SourceEntry):
    """Everything in the file."""

    camera: tuple[CameraEntry, ...] = ()
    folder: tuple[FolderEntry, ...] = ()
    pull: tuple[PullEntry, ...] = ()

    @model_validator(mode="after")
    def _apart(self) -> "Entries":
        _no_two("camera", (one.name for one in self.camera))
        _no_two("pull", (one.name for one in self.pull))
        folders = [one.path for one in self.folder] + [
            one.folder for one in self.camera if one.folder is not None
        ]
        paths = sorted(path.absolute() for path in folders)
        for path, following in pairwise(paths):
            if following.is_relative_to(path):
                raise ValueError(f"the folders {path} and {following} overlap: each needs one of its own")
        return self


def _no_two(what: str, names: Iterable[str]) -> None:
    seen = set()
    for name in names:
        if name in seen:
            raise ValueError(f"there are two entries [[{what}]] of {name}")
        seen.add(name)


def read_entries(file: Path) -> Entries:
    """The entries of a file. Raises SourceError, which says where and how to mend it, and no secret."""
    try:
        table: Any = tomllib.loads(file.read_bytes().decode())
    except tomllib.TOMLDecodeError as error:
        raise SourceError(f"{file}: this is no TOML: {error}") from None
    except UnicodeDecodeError:
        raise SourceError(f"{file} is not UTF-8 text") from None
    except OSError as error:
        raise SourceError(f"{file} cannot be read: {error.strerror}") from None
    try:
        return Entries.model_validate(table)
    except ValidationError as error:
        faults = error.errors(include_input=False, include_url=False, include_context=False)
        words = [
            f"{_where(fault['loc'])}: "
            + ("there is no such name" if fault["type"] == "extra_forbidden" else fault["msg"])
            for fault in faults
        ]
        more = f" (and {len(words) - 1} more)" if len(words) > 1 else ""
        raise SourceError(f"{file}, {words[0].replace('Value error, ', '')}{more}") from None


def _where(place: tuple[int | str, ...]) -> str:
    """`camera[2].every`, counted from 1."""
    text = ""
    for part in place:
        text += f"[{part + 1}]" if isinstance(part, int) else f".{part}" if text else part
    return text
