"""Reports printed as PDF by the real web engine, or one line where it cannot run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from recordings import write_recording
from running import casa
from samples import sample_of

ENGINE = "from PySide6.QtWebEngineCore import QWebEnginePage"
READ = """
import sys
from PySide6.QtPdf import QPdfDocument
from PySide6.QtCore import QCoreApplication
app = QCoreApplication([])
document = QPdfDocument()
document.load(sys.argv[1])
size = document.pagePointSize(0)
print(document.pageCount(), round(size.width()), round(size.height()))
for page in range(document.pageCount()):
    print(document.getAllText(page).text().replace(chr(10), " ").replace(chr(13), " "))
"""


def python(code: str, *arguments: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"QT_QPA_PLATFORM": "offscreen"}
    call = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(call, capture_output=True, text=True, timeout=60, env=environment)


@pytest.fixture(scope="module")
def engine() -> None:
    """Skips where a library that Qt's web engine needs is missing (Debian: libnss3, libasound2, libxkbfile1, ...)."""
    found = python(ENGINE)
    if found.returncode:
        pytest.skip(f"Qt's web engine does not load here: {found.stderr.strip().splitlines()[-1]}")


def test_a_sample_is_printed_on_a4_with_its_id_on_every_page(engine, tmp_path):
    sample_of(tmp_path / "s", ((60, 40, 20, 80),), ((60, 40, 20, 80),))
    done = casa("sample", "report", "s", "--pdf", cwd=tmp_path, timeout_s=240)
    assert done.returncode == 0, done.stderr
    assert done.stderr.split() == ["s/report.html", "s/report.pdf"]
    assert sorted(path.name for path in (tmp_path / "s").iterdir()) == [
        "1-0.h5", "2-0.h5", "report.html", "report.pdf", "sample.json",
    ]  # fmt: skip
    told, *pages = python(READ, tmp_path / "s" / "report.pdf").stdout.splitlines()
    count, width, height = map(int, told.split())
    assert (width, height) == (595, 842)
    assert count == len(pages) >= 3
    for number, words in enumerate(pages, 1):
        assert "Sample S-1 · casa" in words
        assert f"{number} / {count}" in words
    assert "50 %" in pages[0]
    assert "Reviewed by" in pages[0]


def test_where_the_web_engine_cannot_run_it_says_so_in_one_line(tmp_path):
    """A Qt that cannot be loaded: the report is there, the PDF is not, and the line says what to do instead."""
    write_recording(tmp_path / "run.h5")
    broken = tmp_path / "PySide6"
    broken.mkdir()
    (broken / "__init__.py").write_text("raise ImportError('libnss3.so: cannot open shared object file')\n")
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"}
    call = [sys.executable, "-m", "casa", "report", "run.h5", "--pdf"]
    done = subprocess.run(call, capture_output=True, text=True, timeout=120, env=environment, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "run.pdf: the PDF cannot be made here (libnss3.so: cannot open shared object file)" in done.stderr
    assert "print run.html from a browser" in done.stderr
    assert (tmp_path / "run.html").is_file()
    assert not list(tmp_path.glob("*.pdf*"))
    refused = casa("report", "run.h5", "-o", "run.pdf", "--pdf", cwd=tmp_path)
    assert refused.returncode == 2
    assert "is to be the HTML file" in refused.stderr
