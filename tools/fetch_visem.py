"""Download VISEM-Tracking (or VISEM) from Zenodo: resumes, checks sums, and writes nothing it has not checked.

    python tools/fetch_visem.py DIR                  VISEM-Tracking, record 7293726, CC BY 4.0
    python tools/fetch_visem.py DIR --data visem     VISEM, record 2640506, 35 GB, CC BY-NC 4.0

A file under way is ``NAME.part``; run the same command again to go on where it stopped. Sizes and MD5 sums come from
the record itself. Needs nothing but Python and casa.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import json
import shutil
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from casa.errors import CasaError, InputError
from casa.progress import progress

RECORDS = {"visem-tracking": 7293726, "visem": 2640506}
BASE_URL = "https://zenodo.org"
_CHUNK_BYTES = 1 << 18
_USER_AGENT = "casa-fetch-visem"
# What can pass by itself; any other answer of the server is final.
_PASSING_STATUS = (408, 425, 429, 500, 502, 503, 504)


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One file of a record."""

    name: str
    url: str
    size_bytes: int
    md5: str


class _Interrupted(Exception):
    """The transfer broke off; what has arrived is kept, and it can be tried again."""


def list_files(base_url: str, record: int, timeout_s: float) -> list[RemoteFile]:
    """The files of a Zenodo record, from its API.

    Raises
    ------
    InputError : the address or the record does not exist. CasaError : the answer is not a record with files and sums.
    """
    url = f"{base_url.rstrip('/')}/api/records/{record}"
    try:
        with _open(url, {}, timeout_s) as response:
            answer = json.loads(response.read())
    except urllib.error.HTTPError as error:
        error.close()
        if error.code in _PASSING_STATUS:
            raise _Interrupted(f"{url}: {error.code} {error.reason}") from error
        raise InputError(f"{url}: {error.code} {error.reason}; check --record and --base-url") from error
    except (http.client.HTTPException, ConnectionError, TimeoutError) as error:
        raise _Interrupted(f"{url}: {error or type(error).__name__}") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CasaError(f"{url}: answered with something else than a record; check --base-url") from error
    files = []
    try:
        for entry in answer["files"]:
            kind, _, digest = entry["checksum"].partition(":")
            name = entry["key"]
            if kind != "md5" or len(digest) != 32 or Path(name).name != name:
                raise ValueError(f"checksum {entry['checksum']!r} of {name!r}")
            link = urllib.parse.urljoin(url, entry["links"]["self"])
            files.append(RemoteFile(name, link, int(entry["size"]), digest.lower()))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CasaError(
            f"{url}: the record is not as expected ({error!r}); casa's reader may have to follow"
        ) from error
    if not files:
        raise CasaError(f"{url}: the record holds no files")
    return files


def fetch(file: RemoteFile, folder: Path, retries: int, timeout_s: float, advance: Callable[[int], None]) -> Path:
    """Download one file, going on from a ``.part`` that is there; it gets its name when its sum is right.

    Parameters
    ----------
    retries : tries after the first one that may break off; a try that got further starts the count anew.
    advance : called with the number of bytes that are there more (or, when it starts anew, fewer).

    Raises
    ------
    CasaError : broken off too often, or the whole file has a wrong sum (it is removed).
    """
    target, part = folder / file.name, folder / f"{file.name}.part"
    if target.is_file() and target.stat().st_size == file.size_bytes and md5_of(target) == file.md5:
        advance(file.size_bytes)
        return target
    have = part.stat().st_size if part.is_file() else 0
    if have > file.size_bytes:
        part.unlink()
        have = 0
    advance(have)
    _repeat(lambda: _continue_part(file, part, timeout_s, advance), lambda: _size(part), retries, file.name)
    if _size(part) != file.size_bytes or md5_of(part) != file.md5:
        part.unlink()
        raise CasaError(f"{file.name}: arrived with a wrong MD5 sum and was removed; run the same command again")
    part.replace(target)
    return target


def _repeat(attempt: Callable[[], None], reached: Callable[[], int], retries: int, what: str) -> None:
    """Try until it works; give up after ``retries`` tries in a row that brought nothing."""
    failures, before = 0, reached()
    while True:
        try:
            return attempt()
        except _Interrupted as error:
            failures = failures + 1 if reached() <= before else 1
            before = max(before, reached())
            if failures > retries:
                raise CasaError(
                    f"{what}: broke off {failures} times in a row ({error}); run the same command again to go on"
                ) from error
            time.sleep(min(30.0, 0.5 * 2 ** (failures - 1)) if failures > 1 else 0.1)


def _continue_part(file: RemoteFile, part: Path, timeout_s: float, advance: Callable[[int], None]) -> None:
    """Append what is missing of a file to ``part``, or start it anew where the server does not serve parts."""
    have = _size(part)
    if have == file.size_bytes:
        return
    headers = {"Range": f"bytes={have}-"} if have else {}
    try:
        with _open(file.url, headers, timeout_s) as response:
            if have and not (response.status == 206 and _range_start(response) == have):
                advance(-have)
                have = 0
            with open(part, "ab" if have else "wb") as stream:
                while chunk := response.read(_CHUNK_BYTES):
                    stream.write(chunk)
                    have += len(chunk)
                    advance(len(chunk))
                    if have > file.size_bytes:
                        raise CasaError(f"{file.name}: the server sends more than the record says; try again later")
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:
            part.unlink()
            advance(-have)
            raise _Interrupted("the server refused the range") from error
        if error.code in _PASSING_STATUS:
            raise _Interrupted(f"{error.code} {error.reason}") from error
        raise CasaError(f"{file.url}: {error.code} {error.reason}") from error
    except (http.client.HTTPException, ConnectionError, TimeoutError) as error:
        raise _Interrupted(str(error) or type(error).__name__) from error
    if have < file.size_bytes:
        raise _Interrupted(f"the connection ended at {have} of {file.size_bytes} bytes")


def _open(url: str, headers: dict[str, str], timeout_s: float) -> http.client.HTTPResponse:
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        raise InputError(f"{url}: not an http(s) address; check --base-url")
    request = urllib.request.Request(url, headers={"User-Agent": _USER_AGENT, **headers})
    try:
        return urllib.request.urlopen(request, timeout=timeout_s)
    except urllib.error.HTTPError:
        raise
    except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
        reason = getattr(error, "reason", None) or error
        raise _Interrupted(f"{url}: {reason}") from error


def _range_start(response: http.client.HTTPResponse) -> int:
    """Where the part that is sent begins: ``Content-Range: bytes START-END/SIZE``."""
    words = (response.headers.get("Content-Range") or "").replace("-", " ").split()
    return int(words[1]) if len(words) > 1 and words[0] == "bytes" and words[1].isdecimal() else -1


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def md5_of(path: Path) -> str:
    """MD5 of a file, as Zenodo gives it: against damage on the way, not against malice."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a zip beside itself; CasaError where it is damaged, full of other places, or the disk is full."""
    try:
        with zipfile.ZipFile(archive) as content:
            needed = sum(entry.file_size for entry in content.infolist())
            if needed > shutil.disk_usage(folder).free:
                raise CasaError(f"{folder}: unpacking {archive.name} takes {needed / 1e9:.1f} GB; free the space")
            content.extractall(folder)
    except (zipfile.BadZipFile, OSError) as error:
        raise CasaError(f"{archive}: cannot be unpacked ({error})") from error


def download(args: argparse.Namespace) -> list[Path]:
    """Fetch the record's files (or those asked for), check them, and unpack archives."""
    record = args.record if args.record is not None else RECORDS[args.data]
    listed: list[RemoteFile] = []
    _repeat(
        lambda: listed.extend(list_files(args.base_url, record, args.timeout)), lambda: 0, args.retries, "the record"
    )
    if args.files:
        unknown = set(args.files) - {file.name for file in listed}
        if unknown:
            raise InputError(f"--file {', '.join(sorted(unknown))}: the record has {', '.join(f.name for f in listed)}")
        listed = [file for file in listed if file.name in args.files]
    if args.list:
        for file in listed:
            print(f"{file.name}\t{file.size_bytes}\t{file.md5}")
        return []
    folder: Path = args.folder
    folder.mkdir(parents=True, exist_ok=True)
    total = sum(file.size_bytes for file in listed)
    there = sum(_size(folder / file.name) or _size(folder / f"{file.name}.part") for file in listed)
    if total - there > shutil.disk_usage(folder).free:
        raise CasaError(f"{folder}: {(total - there) / 1e9:.1f} GB are still to come; free the space")
    paths = []
    with progress("download (MB)", round(total / 1e6, 1), enabled=False if args.quiet else None) as bar:
        for file in listed:
            paths.append(
                fetch(file, folder, args.retries, args.timeout, lambda n, name=file.name: bar.advance(n / 1e6, name))
            )
    if args.unpack:
        for path in paths:
            if path.suffix.lower() == ".zip":
                unpack(path, folder)
    return paths


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="fetch_visem.py",
        description="Download VISEM-Tracking (or VISEM) from Zenodo, going on where an earlier try stopped.",
        epilog="Exit codes: 0 done, 1 the download failed, 2 the call was wrong.",
    )
    made.add_argument("folder", type=Path, help="folder to put the files in; made where missing")
    made.add_argument("--data", choices=sorted(RECORDS), default="visem-tracking", help="which data set (%(default)s)")
    made.add_argument("--record", type=int, help="another Zenodo record number, instead of --data's")
    made.add_argument("--file", dest="files", action="append", metavar="NAME", help="only this file; may be repeated")
    made.add_argument("--list", action="store_true", help="print the files with size and MD5, and download nothing")
    made.add_argument("--unpack", action="store_true", help="unpack zip archives into the folder afterwards")
    made.add_argument("--base-url", default=BASE_URL, help="server to ask (%(default)s); a mirror or a test")
    made.add_argument("--retries", type=int, default=8, help="tries in a row that may bring nothing (%(default)s)")
    made.add_argument("--timeout", type=float, default=60.0, help="seconds to wait for an answer (%(default)s)")
    made.add_argument("--quiet", action="store_true", help="no progress bar")
    return made


def main(arguments: list[str] | None = None) -> int:
    """Run; errors in one line on standard error."""
    try:
        for path in download(parser().parse_args(arguments)):
            print(path)
        return 0
    except CasaError as error:
        print(f"fetch_visem: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"fetch_visem: {error}; check the folder and the disk, and run the same command again", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("fetch_visem: interrupted; run the same command again to go on", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
