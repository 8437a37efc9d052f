"""Where a batch puts its results: a folder, or any place fsspec knows. What has its name there is whole.

A file is written under a name of its own and renamed; ``claim`` makes one only where there is none.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from casa.errors import CasaError, InputError

try:
    import fcntl
except ImportError:  # Windows: two batches into one folder are not told from one
    fcntl = None

#: What is under construction; no reader of Parquet takes such a file for one of its own.
TEMPORARY = ".tmp"


class Store(Protocol):
    """A place for results; names are relative, with ``/``. Methods raise CasaError where the place does not work."""

    root: str

    def put(self, source: Path, name: str) -> int:
        """Copy a local file to ``name``, in the place of one that is there; gives its size in bytes."""
        ...

    def write(self, name: str, data: bytes) -> None:
        """Write ``name``, in the place of one that is there."""
        ...

    def claim(self, name: str, data: bytes) -> bool:
        """Write ``name`` where there is none; whether it was written."""
        ...

    def read(self, name: str) -> bytes | None:
        """The bytes of ``name``; None where there is no such file."""
        ...

    def read_all(self, folder: str, ending: str) -> dict[str, bytes]:
        """The bytes of a folder's files whose names end so, by name; what is under construction is left out."""
        ...

    def sizes(self, folder: str) -> dict[str, int]:
        """Bytes by name of the files in a folder; none where there is no such folder."""
        ...

    def remove(self, name: str) -> None:
        """Remove a file; nothing where there is none."""
        ...

    def exists(self) -> bool:
        """Whether the place is (still) there."""
        ...

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other batches out for the length of a ``with`` block. Raises InputError where one is at work."""
        ...


def is_remote(uri: str) -> bool:
    """Whether it takes fsspec to reach it; ``file://`` is a path."""
    return "://" in uri and not uri.startswith("file://")


def local_path(uri: str) -> Path:
    """The absolute path of what is not remote."""
    return Path(os.path.abspath(uri.removeprefix("file://")))


def filesystem(uri: str) -> tuple[Any, str]:
    """The file system of a remote address, and the path in it. Raises InputError where it is not to be had."""
    import fsspec

    protocol = uri.split("://", 1)[0]
    try:
        return fsspec.core.url_to_fs(uri)
    except (ImportError, ValueError) as error:
        text = " ".join(str(error).split())
        raise InputError(f"{uri}: {protocol}:// cannot be reached from here ({text[:160]})") from error
    except Exception as error:  # each file system has errors of its own: no credentials, no such host, …
        raise CasaError(
            f"{uri}: cannot be reached ({type(error).__name__}: {' '.join(str(error).split())[:160]})"
        ) from error


def open_store(uri: str, create: bool = False) -> Store:
    """The store at a path or an fsspec address; its folder is made where ``create`` is given.

    Raises
    ------
    InputError : it is a file, or fsspec does not know the protocol. CasaError : it cannot be made, or reached.
    """
    if is_remote(uri):
        return RemoteStore(uri, create)
    return LocalStore(local_path(uri), create)


def _said(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _whole_ones(names: Iterable[str], ending: str) -> list[str]:
    return [name for name in names if name.endswith(ending) and not name.startswith(".")]


class LocalStore:
    """A folder, of this machine or one that all machines of a cluster see."""

    def __init__(self, folder: Path, create: bool = False) -> None:
        self.root = str(folder)
        self._folder = folder
        if folder.exists() and not folder.is_dir():
            raise InputError(f"{folder}: is a file; give a folder with -o")
        if create:
            with self._working():
                folder.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def _working(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            gone = "" if self._folder.is_dir() else "; the folder has vanished"
            raise CasaError(f"{self._folder}: cannot be written ({_said(error)}){gone}") from error

    def _whole(self, name: str, fill: Any, place: Any) -> Any:
        """Make a file beside ``name``, synced, and ``place`` it there."""
        target = self._folder / name
        beside = target.parent / f".{target.name}.{uuid.uuid4().hex[:8]}{TEMPORARY}"
        with self._working():
            if not self._folder.is_dir():  # a folder that vanished is not made again behind its owner's back
                raise FileNotFoundError(name)
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                with beside.open("wb") as stream:
                    fill(stream)
                    stream.flush()
                    os.fsync(stream.fileno())
                return place(beside, target)
            finally:
                beside.unlink(missing_ok=True)

    def put(self, source: Path, name: str) -> int:
        """Copy a local file to ``name``."""
        with source.open("rb") as stream:
            self._whole(name, lambda target: shutil.copyfileobj(stream, target, 1 << 20), os.replace)
        return source.stat().st_size

    def write(self, name: str, data: bytes) -> None:
        """Write ``name``."""
        self._whole(name, lambda target: target.write(data), os.replace)

    def claim(self, name: str, data: bytes) -> bool:
        """Write ``name`` where there is none."""

        def place(beside: Path, target: Path) -> bool:
            try:
                os.link(beside, target)  # unlike a rename it fails where the name is taken
            except FileExistsError:
                return False
            except OSError:  # a file system without hard links
                if target.exists():
                    return False
                os.replace(beside, target)
            return True

        return self._whole(name, lambda target: target.write(data), place)

    def read(self, name: str) -> bytes | None:
        """The bytes of ``name``, or None."""
        try:
            return (self._folder / name).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise CasaError(f"{self._folder / name}: cannot be read ({_said(error)})") from error

    def read_all(self, folder: str, ending: str) -> dict[str, bytes]:
        """The bytes of a folder's files."""
        found = {name: self.read(f"{folder}/{name}") for name in _whole_ones(self.sizes(folder), ending)}
        return {name: data for name, data in found.items() if data is not None}

    def sizes(self, folder: str) -> dict[str, int]:
        """Bytes by name of the files in a folder."""
        try:
            with os.scandir(self._folder / folder) as entries:
                return {entry.name: entry.stat().st_size for entry in entries if entry.is_file()}
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise CasaError(f"{self._folder / folder}: cannot be read ({_said(error)})") from error

    def remove(self, name: str) -> None:
        """Remove a file."""
        with self._working():
            (self._folder / name).unlink(missing_ok=True)

    def exists(self) -> bool:
        """Whether the place is there."""
        return self._folder.is_dir()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other batches out."""
        with self._working():
            (self._folder / "_casa").mkdir(parents=True, exist_ok=True)
            stream = (self._folder / "_casa" / "lock").open("w")
        with stream:
            if fcntl is not None:
                try:
                    fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise InputError(
                        f"{self._folder}: another batch is writing into it; wait for it, or give another -o"
                    ) from None
                except OSError:
                    pass  # a file system without locks
            yield


class RemoteStore:
    """A place that fsspec knows. It has no locks: that only one batch writes there is for its user to see to."""

    def __init__(self, uri: str, create: bool = False) -> None:
        self.root = uri.rstrip("/")
        self._fs, path = filesystem(self.root)
        self._path = path.rstrip("/")
        if create:
            with self._working():
                self._fs.makedirs(self._path, exist_ok=True)

    @contextmanager
    def _working(self) -> Iterator[None]:
        try:
            yield
        except CasaError:
            raise
        except Exception as error:  # each file system has errors of its own
            raise CasaError(f"{self.root}: does not work ({type(error).__name__}: {_said(error)})") from error

    def put(self, source: Path, name: str) -> int:
        """Copy a local file to ``name``."""
        target = f"{self._path}/{name}"
        parent, _, last = target.rpartition("/")
        beside = f"{parent}/.{last}.{uuid.uuid4().hex[:8]}{TEMPORARY}"
        with self._working():
            self._fs.makedirs(parent, exist_ok=True)
            self._fs.put_file(str(source), beside)
            if self._fs.exists(target):
                self._fs.rm_file(target)
            self._fs.mv(beside, target)
        return source.stat().st_size

    def write(self, name: str, data: bytes) -> None:
        """Write ``name``."""
        with self._working():
            target = f"{self._path}/{name}"
            self._fs.makedirs(target.rpartition("/")[0], exist_ok=True)
            self._fs.pipe_file(target, data)

    def claim(self, name: str, data: bytes) -> bool:
        """Write ``name`` where there is none."""
        with self._working():
            if self._fs.exists(f"{self._path}/{name}"):
                return False
        self.write(name, data)
        return True

    def read(self, name: str) -> bytes | None:
        """The bytes of ``name``, or None."""
        with self._working():
            try:
                return self._fs.cat_file(f"{self._path}/{name}")
            except FileNotFoundError:
                return None

    def read_all(self, folder: str, ending: str) -> dict[str, bytes]:
        """The bytes of a folder's files, fetched many at a time where the file system can."""
        names = _whole_ones(self.sizes(folder), ending)
        with self._working():
            paths = [f"{self._path}/{folder}/{name}" for name in names]
            found = self._fs.cat(paths, on_error="omit") if paths else {}
        return {path.rpartition("/")[2]: data for path, data in found.items()}

    def sizes(self, folder: str) -> dict[str, int]:
        """Bytes by name of the files in a folder."""
        with self._working():
            try:
                self._fs.invalidate_cache()
                found = self._fs.ls(f"{self._path}/{folder}", detail=True)
            except FileNotFoundError:
                return {}
        files = [entry for entry in found if entry["type"] == "file"]
        return {entry["name"].rpartition("/")[2]: int(entry["size"] or 0) for entry in files}

    def remove(self, name: str) -> None:
        """Remove a file."""
        with self._working():
            try:
                self._fs.rm_file(f"{self._path}/{name}")
            except FileNotFoundError:
                pass

    def exists(self) -> bool:
        """Whether the place is there."""
        with self._working():
            return bool(self._fs.exists(self._path))

    @contextmanager
    def held(self) -> Iterator[None]:
        """Nobody can be kept out."""
        yield
