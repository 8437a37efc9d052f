"""The documentation site is built by the command that docs/index.md gives, without a warning, with every page in it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_the_site_is_built_without_a_warning(tmp_path: Path):
    pytest.importorskip("myst_parser")
    pytest.importorskip("furo")
    command = ["-W", "--keep-going", "-q", "-c", "docs", ".", str(tmp_path / "site"), "-d", str(tmp_path / "trees")]
    sphinx = [sys.executable, "-m", "sphinx", *command]
    done = subprocess.run(sphinx, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    site = tmp_path / "site"
    assert "url=docs/index.html" in (site / "index.html").read_text()
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "models").glob("*.md")]:
        assert (site / page.relative_to(ROOT)).with_suffix(".html").is_file(), page.name
