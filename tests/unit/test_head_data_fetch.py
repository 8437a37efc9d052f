"""Fetching a set: from a file address, without a network."""

from __future__ import annotations

import hashlib
import sys
import zipfile
from pathlib import Path

import pytest

from casa.errors import CasaError, InputError

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
from fetch_heads import fetch, unpack


def test_an_archive_is_fetched_checked_and_unpacked(tmp_path: Path):
    archive = tmp_path / "set.zip"
    with zipfile.ZipFile(archive, "w") as content:
        content.writestr("HuSHeM/01_Normal/image_001.BMP", b"picture")
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    got = fetch(archive.as_uri(), tmp_path / "out", digest)
    unpack(got, tmp_path / "out")
    assert (tmp_path / "out" / "HuSHeM" / "01_Normal" / "image_001.BMP").read_bytes() == b"picture"
    with pytest.raises(CasaError, match="its SHA-256 is"):
        fetch(archive.as_uri(), tmp_path / "other", "0" * 64)
    assert not list((tmp_path / "other").iterdir())


def test_what_is_not_taken(tmp_path: Path):
    with pytest.raises(InputError, match="not an http"):
        fetch("ftp://example.org/x.zip", tmp_path, None)
    with pytest.raises(CasaError, match="cannot be fetched"):
        fetch((tmp_path / "gone.zip").as_uri(), tmp_path, None)
    bad = tmp_path / "bad.zip"
    with zipfile.ZipFile(bad, "w") as content:
        content.writestr("../outside.txt", b"x")
    with pytest.raises(CasaError, match="outside of"):
        unpack(bad, tmp_path / "in")
    bad.write_bytes(b"no zip")
    with pytest.raises(CasaError, match="cannot be unpacked"):
        unpack(bad, tmp_path)
