"""The audit log of a laboratory: an append-only, hash-chained file with a line for every result, correction and change.

Each line is a JSON object that holds the SHA-256 of the line before (``previous``) and of itself (``sha256``); beside
the log, ``FILE.head`` holds the number and sum of the last line, so that lines cut off at the end are missed too.
docs/quality.md says what such a chain can show and what it cannot. Knows nothing of what the events are about.
"""

from __future__ import annotations

import getpass
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from casa.errors import CasaError, InputError

FORMAT = "casa-audit"
VERSION = 1
#: Names the log that commands write to where they are given none.
VARIABLE = "CASA_AUDIT_LOG"
_KEYS = frozenset(("n", "utc", "who", "event", "subject", "details", "previous", "sha256"))
_HEAD_KEYS = frozenset(("format", "version", "n", "utc", "who", "sha256"))


@dataclass(frozen=True, slots=True)
class AuditLine:
    """One event: what happened (``event``), to what (``subject``), when, by whom, and its sum."""

    number: int
    utc: str
    who: str
    event: str
    subject: str
    details: dict[str, Any]
    sha256: str


@dataclass(frozen=True, slots=True)
class Audit:
    """What a log holds. ``torn`` is the length in bytes of an unfinished last line, which a crash leaves."""

    path: Path
    lines: tuple[AuditLine, ...]
    sha256: str
    torn: int = 0


class AuditLog:
    """A log to append to. The file is made with its first line; several processes may write to it."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    @classmethod
    def configured(cls, path: Path | str | None = None) -> AuditLog | None:
        """The log of ``path`` or else of the variable CASA_AUDIT_LOG; None where neither names one."""
        chosen = path or os.environ.get(VARIABLE)
        return cls(chosen) if chosen else None

    def append(self, event: str, subject: str, **details: Any) -> AuditLine:
        """Add one line and make it safe on the disk; NaN and infinity in ``details`` become null.

        Raises
        ------
        CasaError : it cannot be written, or the end of the file is not what was written last; nothing is added then.
        """
        with self._open(os.O_CREAT) as descriptor:
            return self._append(descriptor, event, subject, details)

    def check(self) -> None:
        """Raise the CasaError that `append` would raise now, and write nothing: for commands that write other files."""
        if self.path.exists():
            with self._open() as descriptor:
                self._end(descriptor)
        elif not os.access(self.path.parent, os.W_OK):
            raise CasaError(f"{self.path}: the audit log cannot be written (its folder is not there, or read only)")

    @contextmanager
    def _open(self, flags: int = 0) -> Iterator[int]:
        """The file's descriptor, locked."""
        try:
            descriptor = os.open(self.path, os.O_RDWR | flags | getattr(os, "O_BINARY", 0), 0o644)
            try:
                lock(descriptor)
                yield descriptor
            finally:
                os.close(descriptor)
        except OSError as error:
            raise CasaError(f"{self.path}: the audit log cannot be written ({error.strerror})") from error

    def _append(self, descriptor: int, event: str, subject: str, details: dict[str, Any]) -> AuditLine:
        number, previous, size = self._end(descriptor)
        text = b""
        if previous == "":
            text, previous = chained_line(
                {"format": FORMAT, "version": VERSION, "n": 0, "utc": now_utc(), "who": user_name()}
            )
            _write_head(self.path, 0, previous)  # before the first line: no log with a line is ever without one
        body = {
            "n": number + 1, "utc": now_utc(), "who": user_name(), "event": _plain(event), "subject": _plain(subject),
            "details": _plain(details), "previous": previous,
        }  # fmt: skip
        line, digest = chained_line(body)
        os.ftruncate(descriptor, size)  # the torn end of a line that never was whole
        os.lseek(descriptor, size, os.SEEK_SET)
        write_all(descriptor, text + line)
        os.fsync(descriptor)
        _write_head(self.path, number + 1, digest)
        return _event(body | {"sha256": digest})

    def _end(self, descriptor: int) -> tuple[int, str, int]:
        """Number and sum of the last whole line, and where it ends; the sum is "" in an empty file."""
        raw, size = _last_line(descriptor)
        head = read_head(self.path)
        if raw is None:
            if head_path(self.path).exists() and (head is None or head[0] > 0):
                raise CasaError(f"{self.path}: is empty and its head file is not: lines were removed; {_GIVE_UP}")
            return 0, "", 0
        try:
            line = json.loads(raw)
            number, digest = int(line["n"]), str(line["sha256"])
            sound = digest_of(line) == digest
        except (ValueError, KeyError, TypeError):
            sound, number, digest = False, 0, ""
        if not sound:
            raise CasaError(f"{self.path}: the last line is not what casa wrote; nothing was added. {_GIVE_UP}")
        if head is None or head[0] > number:
            lost = "its head file is missing" if head is None else f"{head[0] - number} lines at its end are missing"
            raise CasaError(f"{self.path}: {lost}; nothing was added. {_GIVE_UP}")
        return number, digest, size


_GIVE_UP = "See `casa audit verify`; to go on, move the log and its .head away and keep both"


def read_audit(path: Path, known_sha256: str = "") -> Audit:
    """Read a log and check its chain.

    Parameters
    ----------
    known_sha256 : the sum of a line (or its first 8 or more digits) noted elsewhere, which must be there.

    Raises
    ------
    InputError : no such file, or not an audit log. CasaError : a line was changed, moved, removed or inserted, lines at
        the end are missing, or the noted sum is not there; the message names the line.
    """
    head = read_head(path)  # before the log, which may grow meanwhile
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give an audit log") from error
    if head is None and read_head(path) is not None:  # the log was begun just now
        return read_audit(path, known_sha256)
    whole = data[: data.rfind(b"\n") + 1]
    rows = whole.split(b"\n")[:-1]
    if not rows:
        if head is not None and head[0] > 0:
            raise CasaError(f"{path}: is empty, and line {head[0] + 1} was written: its lines were removed")
        raise InputError(f"{path}: holds no line; give an audit log")
    previous = _check_first(path, rows[0])
    sums = {0: previous}
    lines = []
    for row, raw in enumerate(rows[1:], 1):
        line = _checked(path, row, raw, previous)
        previous = str(line["sha256"])
        sums[row] = previous
        lines.append(_event(line))
    _check_head(path, head, sums)
    if known_sha256 and not any(value.startswith(known_sha256.lower()) for value in sums.values()):
        raise CasaError(
            f"{path}: no line has the sum {known_sha256[:16]}…, which was noted elsewhere: the log was written anew"
            " from some line on, or cut off before it"
        )
    return Audit(path, tuple(lines), previous, len(data) - len(whole))


def _check_first(path: Path, raw: bytes) -> str:
    try:
        line = json.loads(raw)
        if line["format"] != FORMAT:
            raise InputError(f"{path}: is of format {line['format']!r}, not an audit log")
        if int(line["version"]) > VERSION:
            raise InputError(f"{path}: is of version {line['version']}, this casa reads up to {VERSION}: update casa")
        digest = str(line["sha256"])
        if set(line) != _HEAD_KEYS or line["n"] != 0 or digest_of(line) != digest or _text(line) != raw:
            raise CasaError(f"{path}: line 1 is not what was written: it was changed")
        return digest
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{path}: line 1 is not the head of an audit log") from None


def _checked(path: Path, row: int, raw: bytes, previous: str) -> dict[str, Any]:
    """A line's object. Raises CasaError, which names the line as an editor counts it, where the chain breaks."""
    where = f"{path}: line {row + 1}"
    try:
        line = json.loads(raw)
        complete = set(line) == _KEYS and isinstance(line["details"], dict)
        sound = complete and digest_of(line) == line["sha256"] and _text(line) == raw
    except (ValueError, TypeError, AttributeError):
        raise CasaError(f"{where} is no line of an audit log: it was changed") from None
    if not sound:
        raise CasaError(f"{where} is not what was written: it was changed")
    if line["previous"] != previous or line["n"] != row:
        moved = (
            f"event {line['n']} stands where event {row} belongs"
            if line["n"] != row
            else "it does not belong to the lines before"
        )
        raise CasaError(f"{where} does not follow the one before ({moved}): a line was removed, inserted or moved")
    return line


def _check_head(path: Path, head: tuple[int, str] | None, sums: dict[int, str]) -> None:
    """Raise CasaError unless the head file's line is there; a line after it was written before a crash, and stands."""
    last = max(sums)
    if head is None:
        raise CasaError(f"{head_path(path)}: is missing or damaged: whether lines were cut off at the end is not known")
    if head[0] > last:
        raise CasaError(f"{path}: ends with line {last + 1}, and line {head[0] + 1} was written: the end was cut off")
    if sums[head[0]] != head[1]:
        raise CasaError(f"{path}: line {head[0] + 1} is not the one its head file names: lines were written anew")


def head_path(path: Path) -> Path:
    """``FILE.head``, beside the log."""
    return path.with_name(path.name + ".head")


def read_head(path: Path) -> tuple[int, str] | None:
    """Number and sum of the last line as the head file has them; None where it is missing or damaged."""
    try:
        number, digest = head_path(path).read_text(encoding="ascii").split()
        return int(number), digest
    except (OSError, ValueError):
        return None


def digest_of(line: dict[str, Any]) -> str:
    """The SHA-256 of a line's canonical JSON without its own ``sha256``: sorted keys, no spaces, UTF-8."""
    body = {key: value for key, value in line.items() if key != "sha256"}
    text = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def file_digest(path: Path) -> str:
    """The SHA-256 of a file, to name it in a line. CasaError: it cannot be read."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise CasaError(f"{path}: cannot be read for the audit log ({error.strerror})") from error


def user_name() -> str:
    """Who is logged in."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return "unknown"


def _event(line: dict[str, Any]) -> AuditLine:
    return AuditLine(
        int(line["n"]), str(line["utc"]), str(line["who"]), str(line["event"]), str(line["subject"]),
        dict(line["details"]), str(line["sha256"]),
    )  # fmt: skip


def now_utc() -> str:
    """Now, ISO 8601 in ms."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _plain(value: Any) -> Any:
    """A value as JSON has it."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float):
        return value if abs(value) < float("inf") else None
    if value is None or isinstance(value, (bool, int)):
        return value
    return str(value).encode("utf-8", "replace").decode("utf-8")  # file names may hold what UTF-8 does not have


def chained_line(body: dict[str, Any]) -> tuple[bytes, str]:
    """The bytes of a line with its sum, and the sum."""
    digest = digest_of(body)
    return _text(body | {"sha256": digest}) + b"\n", digest


def _text(line: dict[str, Any]) -> bytes:
    return json.dumps(line, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8")


def _last_line(descriptor: int) -> tuple[bytes | None, int]:
    """The last whole line, None in a file without one, and where it ends: read from the end, however long the file."""
    size = os.fstat(descriptor).st_size
    tail, start = b"", size
    while start > 0:
        step = min(65536, start)
        start -= step
        os.lseek(descriptor, start, os.SEEK_SET)
        tail = os.read(descriptor, step) + tail
        end = tail.rfind(b"\n")
        begin = tail.rfind(b"\n", 0, end) if end >= 0 else -1
        if begin >= 0 or (end >= 0 and start == 0):
            return tail[begin + 1 : end], start + end + 1
    return None, 0


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of ``data``."""
    while data:
        data = data[os.write(descriptor, data) :]


def _write_head(path: Path, number: int, digest: str) -> None:
    """Replace the head file, whole or not at all; after a line of an event: a crash leaves it behind, never ahead."""
    target = head_path(path)
    partial = target.with_name(target.name + ".partial")
    with partial.open("w", encoding="ascii") as stream:
        stream.write(f"{number} {digest}\n")
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(partial, target)


def lock(descriptor: int) -> None:
    """Wait for other writers, and hold them off until the file is closed; without effect on Windows."""
    try:
        import fcntl
    except ImportError:
        return
    fcntl.flock(descriptor, fcntl.LOCK_EX)
