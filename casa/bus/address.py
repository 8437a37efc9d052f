"""Where a session's sockets are: a folder of ipc sockets, or ports of an address; who owns them, and their removal.

An endpoint is ``ipc://FOLDER`` (sockets FOLDER/control, FOLDER/view, …), ``tcp://HOST:PORT`` (PORT, PORT + 1, …) or a
bare name, which is a folder of that name in the user's runtime folder.
"""

from __future__ import annotations

import ipaddress
import os
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from casa.errors import CasaError, InputError

try:
    import fcntl
except ImportError:  # Windows has no ipc sockets either
    fcntl = None

#: The sockets of a session; with tcp, the n-th is on port + n.
SOCKETS = ("control", "view", "events", "record", "grade")
DEFAULT_NAME = "live"
DEFAULT_PORT = 5620
_OWNER = "owner"
#: The system's limit for the path of a Unix socket is 107 bytes.
_MAX_PATH_BYTES = 107


def has_ipc() -> bool:
    """Whether this system has ipc sockets."""
    return fcntl is not None and sys.platform != "win32"


def runtime_folder() -> Path:
    """The user's own folder for sockets; not created."""
    base = os.environ.get("XDG_RUNTIME_DIR")
    if base and Path(base).is_dir():
        return Path(base) / "casa"
    user = os.getuid() if hasattr(os, "getuid") else 0
    return Path(tempfile.gettempdir()) / f"casa-{user}"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a session is; made by ``parse``. ``folder`` of ipc sockets, or ``host`` and ``port``."""

    folder: Path | None = None
    host: str = ""
    port: int = 0

    @classmethod
    def parse(cls, text: str | None) -> Endpoint:
        """The endpoint of ``ipc://FOLDER``, ``tcp://HOST:PORT`` or a name; None is the default one.

        Raises InputError for anything else, and where the folder's path is too long for a socket.
        """
        if text is None and not has_ipc():
            return cls(host="127.0.0.1", port=DEFAULT_PORT)
        text = DEFAULT_NAME if text is None else text
        if text.startswith("tcp://"):
            host, _, port = text.removeprefix("tcp://").rpartition(":")
            if not host or not port.isdecimal() or not 0 < int(port) <= 65535 - len(SOCKETS):
                raise InputError(f"{text}: expected tcp://HOST:PORT, with a port from 1 to {65535 - len(SOCKETS)}")
            return cls(host=host, port=int(port))
        if text.startswith("ipc://"):
            name = text.removeprefix("ipc://")
            folder = Path(name)
            if not folder.is_absolute():
                raise InputError(f"{text}: expected ipc:// and a folder's whole path, as in ipc:///tmp/field")
        elif text and "/" not in text and "\\" not in text and ":" not in text and text not in (".", ".."):
            folder = runtime_folder() / text
        else:
            raise InputError(f"{text!r}: expected a name, ipc://FOLDER or tcp://HOST:PORT")
        if not has_ipc():
            raise InputError(f"{text}: there are no ipc sockets on this system; use tcp://127.0.0.1:{DEFAULT_PORT}")
        longest = len(os.fsencode(folder)) + 1 + max(map(len, SOCKETS))
        if longest > _MAX_PATH_BYTES:
            raise InputError(f"{text}: the path of a socket may have {_MAX_PATH_BYTES} bytes, this has {longest}")
        return cls(folder=folder)

    def __str__(self) -> str:
        return f"ipc://{self.folder}" if self.folder is not None else f"tcp://{self.host}:{self.port}"

    def address(self, socket: str) -> str:
        """What ZeroMQ binds or connects for one of SOCKETS."""
        if self.folder is not None:
            return f"ipc://{self.folder / socket}"
        return f"tcp://{self.host}:{self.port + SOCKETS.index(socket)}"

    @property
    def is_local(self) -> bool:
        """Whether nobody outside of this machine can reach it."""
        if self.folder is not None or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host.strip("[]")).is_loopback
        except ValueError:
            return False


class Claim:
    """The ownership of an endpoint's sockets while a session runs. A context manager; ``release`` removes them.

    A folder whose owner has died is cleaned up: its lock has gone with the process.

    Raises
    ------
    InputError : a living session is there. CasaError : the folder cannot be made, or is somebody else's.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._fd = -1
        if endpoint.folder is None:
            return
        folder = endpoint.folder
        try:
            folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if folder.parent == runtime_folder():
                _check_ours(folder.parent)
                clean_stale(folder.parent)
            while self._fd < 0:
                folder.mkdir(mode=0o700, exist_ok=True)
                _check_ours(folder)
                self._fd = _lock(folder)
            for name in SOCKETS:
                (folder / name).unlink(missing_ok=True)
        except OSError as error:
            raise CasaError(f"{endpoint}: cannot be used for sockets ({error.strerror or error})") from error

    def release(self) -> None:
        """Remove the sockets; the endpoint is free then."""
        if self._fd >= 0 and self.endpoint.folder is not None:
            shutil.rmtree(self.endpoint.folder, ignore_errors=True)
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Claim:
        return self

    def __exit__(self, *exception: object) -> None:
        self.release()


def owner_pid(endpoint: Endpoint) -> int | None:
    """The process that owns an ipc endpoint, where it lives; None where nobody does, or where it cannot be told."""
    if endpoint.folder is None or fcntl is None:
        return None
    try:
        with (endpoint.folder / _OWNER).open("rb") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(stream.read() or 0)
    except (OSError, ValueError):
        pass
    return None


def clean_stale(parent: Path) -> None:
    """Remove the folders of sessions in ``parent`` whose owner has died."""
    for owner in parent.glob(f"*/{_OWNER}"):
        remove_if_stale(Endpoint(folder=owner.parent))


def remove_if_stale(endpoint: Endpoint) -> bool:
    """Remove the sockets of an endpoint whose owner has died; True where that was so."""
    if endpoint.folder is None or fcntl is None:
        return False
    try:
        fd = os.open(endpoint.folder / _OWNER, os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(endpoint.folder, ignore_errors=True)
        return True
    except OSError:
        return False
    finally:
        os.close(fd)


def _check_ours(folder: Path) -> None:
    found = folder.stat()
    if hasattr(os, "getuid") and found.st_uid != os.getuid():
        raise CasaError(f"{folder}: belongs to another user; choose another endpoint")


def _lock(folder: Path) -> int:
    """The descriptor of the folder's locked owner file; -1 where it was removed meanwhile."""
    assert fcntl is not None
    path = folder / _OWNER
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if path.stat().st_ino != os.fstat(fd).st_ino:
            raise FileNotFoundError
        os.ftruncate(fd, 0)
        os.write(fd, str(os.getpid()).encode())
    except BlockingIOError:
        os.close(fd)
        raise InputError(
            f"ipc://{folder}: a session is running there; stop it, or give this one another name with --endpoint"
        ) from None
    except FileNotFoundError:
        os.close(fd)
        return -1
    return fd
