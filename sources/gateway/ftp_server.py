"""An FTP server without files: an upload is handed over whole, and its reply is what became of it.

Loaded only where settings ask for it: pyftpdlib is an extra. It serves each client in a thread of its own.
"""

import errno
import io
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

from pyftpdlib.authorizers import AuthenticationFailed
from pyftpdlib.filesystems import AbstractedFS, FilesystemError
from pyftpdlib.handlers import DTPHandler, FTPHandler
from pyftpdlib.ioloop import IOLoop
from pyftpdlib.servers import ThreadedFTPServer

from camera.image import MAX_ORIGINAL_BYTES
from settings.sections import FtpSettings

log = logging.getLogger(__name__)
# Its own words are of no use to an operator, and name what clients send.
logging.getLogger("pyftpdlib").setLevel(logging.CRITICAL)

#: Seconds that a client may say nothing, and that a transfer may stand still.
_SILENT_S: Final = 60
_STALLS_S: Final = 15
#: Characters of the folder that a client says it is in.
_LONGEST_PATH: Final = 1024
#: Connections of one address.
_OF_ADDRESS: Final = 8
#: What a client may do, as pyftpdlib has it: enter, list, make, rename and delete folders, and upload.
_MAY: Final = "elmdfw"


class FtpHost(NamedTuple):
    """What the server asks, in the threads of its clients.

    `admitted`: who shows a key, by user, key and address; None: nobody. `take`: the reply to an upload of
    theirs, once it is known what became of it. `too_large`: the reply to one that was given up for its size.
    """

    admitted: Callable[[str, str, str], Any]
    take: Callable[[Any, bytes], str]
    too_large: Callable[[Any], str]


class FtpServer(ThreadedFTPServer):  # type: ignore[misc]
    """The server, bound to its port. Raises OSError."""

    max_cons_per_ip = _OF_ADDRESS
    #: Seconds within which a client's thread sees that it is time to stop.
    poll_timeout = 0.2

    def __init__(self, settings: FtpSettings, host: FtpHost) -> None:
        self.host = host
        self.max_cons = settings.max_clients
        first, last = settings.passive_ports or (0, -1)
        self.passive_ports = range(first, last + 1) or None
        # Its parent's are shared by all servers of a process.
        self._lock = threading.Lock()
        self._exit = threading.Event()
        super().__init__((settings.host, settings.port), _FtpSession, ioloop=IOLoop())

    def serve_until(self, stop: threading.Event) -> None:
        """Serve; close it all when it is time to stop."""
        try:
            while not stop.is_set():
                self.serve_forever(timeout=0.2, blocking=False, handle_exit=False)
        finally:
            self.close_all()


class _FtpUpload(io.BytesIO):
    """A file that comes in, held until it is whole. OSError: it is too large."""

    name = "upload"
    too_large = False

    def write(self, chunk: Any) -> int:
        if self.tell() + len(chunk) > MAX_ORIGINAL_BYTES:
            self.too_large = True
            raise OSError(errno.EFBIG, "File too large")
        return super().write(chunk)


class _NoFiles(AbstractedFS):  # type: ignore[misc]
    """Every folder is there, and empty: no name of a client's becomes one on a disk."""

    def validpath(self, _: str) -> bool:
        return True

    def chdir(self, path: str) -> None:
        if len(path) > _LONGEST_PATH:
            raise FilesystemError("That name is too long")
        self.cwd = self.fs2ftp(path)

    def open(self, _: str, mode: str) -> _FtpUpload:
        if mode != "wb":
            raise FilesystemError("Send a picture whole, from its beginning")
        return _FtpUpload()

    def mkstemp(self, **_: Any) -> _FtpUpload:
        return _FtpUpload()

    def mkdir(self, path: str) -> None: ...

    def rmdir(self, path: str) -> None: ...

    def remove(self, path: str) -> None: ...

    def rename(self, src: str, dst: str) -> None: ...

    def listdir(self, _: str) -> list[str]:
        return []

    listdirinfo = listdir

    def format_list(self, *_: Any, **__: Any) -> Iterator[bytes]:
        return iter(())

    format_mlsx = format_list

    def isfile(self, _: str) -> bool:
        return False

    islink = isfile
    isdir = lexists = validpath

    def realpath(self, path: str) -> str:
        return path

    def getsize(self, _: str) -> int:
        raise FilesystemError("There is no such file")

    getmtime = getsize


class _FtpKeys:
    """Who may log in, as pyftpdlib asks for it."""

    def validate_authentication(self, username: str, password: str, handler: Any) -> None:
        handler.sender = handler.server.host.admitted(username, password, handler.remote_ip)
        if handler.sender is None:
            raise AuthenticationFailed("Nobody has this key, or it is not for this station.")

    def get_home_dir(self, _: str) -> str:
        return "/"

    def impersonate_user(self, username: str, password: str) -> None: ...

    def terminate_impersonation(self, username: str) -> None: ...

    def has_perm(self, _: str, perm: str, __: str | None = None) -> bool:
        return perm in _MAY

    def get_perms(self, _: str) -> str:
        return _MAY

    def get_msg_login(self, _: str) -> str:
        return "Send a picture."

    def get_msg_quit(self, _: str) -> str:
        return "Goodbye."


class _FtpTransfer(DTPHandler):  # type: ignore[misc]
    """A transfer, which is complete when it is known what became of it."""

    timeout = _STALLS_S

    def close(self) -> None:
        if not self._closed and self.receive and self.file_obj is not None:
            host, sender = self.cmd_channel.server.host, self.cmd_channel.sender
            if self.file_obj.too_large:
                self._resp = host.too_large(sender), log.debug
            elif self.transfer_finished:
                self._resp = host.take(sender, self.file_obj.getvalue()), log.debug
        super().close()


class _FtpSession(FTPHandler):  # type: ignore[misc]
    """A client."""

    authorizer = _FtpKeys()
    abstracted_fs = _NoFiles
    dtp_handler = _FtpTransfer
    banner = "skyfuse takes pictures."
    timeout = _SILENT_S
    use_sendfile = False
    sender: Any = None

    def __init__(self, conn: Any, server: FtpServer, ioloop: Any = None) -> None:
        self.passive_ports = server.passive_ports
        super().__init__(conn, server, ioloop)
