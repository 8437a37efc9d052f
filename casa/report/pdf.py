"""Reports as PDF: the HTML file, printed on A4 by the web engine of Qt (docs/decisions/014-pdf.md).

The engine runs in a process of its own, without a screen: where a library of the system is missing it ends that process
and nothing else, and cv2's settings for Qt are not in its way.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from casa.errors import CasaError, InputError
from casa.report.document import check_output

#: The program that is run; a file and not a module, since it must not load what casa.report loads.
_PRINTER = Path(__file__).with_name("print_page.py")
_LONGEST_S = 120
#: What the program's own lines begin with; others are the web engine's.
SAYS = "print_page: "


def write_pdf(page: Path, out: Path, force: bool = False) -> None:
    """Print a report.

    Parameters
    ----------
    page : the HTML file of a report. out : the PDF file.

    Raises
    ------
    InputError : ``page`` is missing, ``out`` exists, or has no folder.
    CasaError : the web engine cannot run here, or the file cannot be written.
    """
    check_output(out, force, [page])
    if not page.is_file():
        raise InputError(f"{page}: no such report; write it first (casa report, casa sample report)")
    partial = out.with_name(out.name + ".partial")
    try:
        told = _print(page, partial, sandbox=not _is_root())
        if told and "sandbox" in told.lower():
            told = _print(page, partial, sandbox=False)
        if told or not partial.is_file():
            raise CasaError(
                f"{out}: the PDF cannot be made here ({told or 'nothing was written'}); print {page} from a browser, on"
                " A4, instead"
            )
        partial.chmod(page.stat().st_mode & 0o777)  # the web engine keeps it to its owner
        os.replace(partial, out)
    except OSError as error:
        raise CasaError(f"{out}: the PDF cannot be written ({error.strerror or error})") from error
    finally:
        with suppress(OSError):
            partial.unlink()


def _is_root() -> bool:
    """Chromium's sandbox does not work for root; what is printed is casa's own page, without scripts or network."""
    return hasattr(os, "geteuid") and os.geteuid() == 0


def _print(page: Path, out: Path, sandbox: bool) -> str:
    """Run the printer; "" where it worked, else why not, in a line."""
    environment = {k: v for k, v in os.environ.items() if "cv2" not in v}
    environment |= {
        "QT_QPA_PLATFORM": "offscreen",
        "QTWEBENGINE_CHROMIUM_FLAGS": "--disable-gpu",
        "QT_LOGGING_RULES": "",
    }
    if not sandbox:
        environment["QTWEBENGINE_DISABLE_SANDBOX"] = "1"
    call = [sys.executable, "-P", str(_PRINTER), str(page.resolve()), str(out.resolve())]
    try:
        done = subprocess.run(call, capture_output=True, text=True, timeout=_LONGEST_S, env=environment)
    except subprocess.TimeoutExpired:
        return f"the web engine did not finish within {_LONGEST_S} s"
    if done.returncode == 0:
        return ""
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    own = [line.removeprefix(SAYS) for line in lines if line.startswith(SAYS)]
    return (own or lines or [f"the web engine ended with code {done.returncode}"])[-1][:300]
