"""Download a public set of head crops: an archive by its address, its sum checked, unpacked, and read once.

    python tools/fetch_heads.py hushem                                   says where the set is published
    python tools/fetch_heads.py hushem DIR --url URL [--sha256 SUM]      fetches the .zip that this page links to

Most of these sets are behind pages that ask for a click or a login, so the address of the archive is given by hand. Its
SHA-256 is printed: note it, and give it the next time. Needs nothing but Python and casa.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from pathlib import Path

from casa.errors import CasaError, InputError

#: Where the sets are published, and under which licence as far as it could be read.
PAGES = {
    "hushem": "https://data.mendeley.com/datasets/tt3yj2pf38/3",
    "smids": "https://www.kaggle.com/datasets/orvile/sperm-morphology-image-data-set-smids",
    "svia": "https://doi.org/10.6084/m9.figshare.15074253",
    "mhsma": "https://github.com/soroushj/mhsma-dataset (CC BY-NC-SA 4.0)",
    "scian": "asked for from its authors: Chang et al. 2017, Computers in Biology and Medicine 83:143",
    "smd-mss": "asked for from its authors (Medical School of Sfax)",
}
_CHUNK_BYTES = 1 << 18
#: An archive that unpacks to more than this is refused.
_MOST_BYTES = 20 << 30


def fetch(url: str, folder: Path, sha256: str | None, timeout_s: float = 60.0) -> Path:
    """The archive at ``url`` in ``folder``; it has its name when it is whole and its sum is right.

    Raises
    ------
    InputError : no http(s) or file address. CasaError : it cannot be fetched, or its sum is another.
    """
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https", "file"):
        raise InputError(f"{url}: not an http(s) address")
    target = folder / (Path(urllib.parse.unquote(parts.path)).name or "heads.zip")
    part, digest = target.with_name(f"{target.name}.part"), hashlib.sha256()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with urllib.request.urlopen(url, timeout=timeout_s) as answer, part.open("wb") as stream:
            while chunk := answer.read(_CHUNK_BYTES):
                stream.write(chunk)
                digest.update(chunk)
    except (urllib.error.URLError, OSError) as error:
        part.unlink(missing_ok=True)
        raise CasaError(f"{url}: cannot be fetched ({error}); check the address, or fetch it by hand") from error
    if sha256 is not None and digest.hexdigest() != sha256.lower():
        part.unlink()
        raise CasaError(f"{url}: its SHA-256 is {digest.hexdigest()}, expected {sha256}; removed")
    part.replace(target)
    print(f"{target}: sha256 {digest.hexdigest()}")
    return target


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a zip into ``folder``; CasaError where it is damaged, too large, or has names that lead out of it."""
    try:
        with zipfile.ZipFile(archive) as content:
            inside = folder.resolve()
            for entry in content.infolist():
                if not (inside / entry.filename).resolve().is_relative_to(inside):
                    raise CasaError(f"{archive}: {entry.filename} would be written outside of {folder}; not unpacked")
            if sum(entry.file_size for entry in content.infolist()) > _MOST_BYTES:
                raise CasaError(f"{archive}: unpacks to more than {_MOST_BYTES >> 30} GiB; unpack it by hand")
            content.extractall(folder)
    except (zipfile.BadZipFile, OSError) as error:
        raise CasaError(f"{archive}: cannot be unpacked ({error}); other archives than .zip are for you") from error


def main() -> None:
    """Fetch, unpack, read."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=sorted(PAGES))
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--url")
    parser.add_argument("--sha256")
    given = parser.parse_args()
    if given.url is None:
        print(f"{given.name}: {PAGES[given.name]}\ngive the archive's own address with --url, and a folder")
        return
    if given.folder is None:
        parser.error("a folder is needed to fetch into")
    from casa.morphology.datasets import picture_files

    unpack(fetch(given.url, given.folder, given.sha256), given.folder)
    print(f"{len(picture_files(given.folder))} pictures; look into them with: casa data audit {given.folder}")


if __name__ == "__main__":
    try:
        main()
    except CasaError as error:
        print(f"fetch_heads: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
