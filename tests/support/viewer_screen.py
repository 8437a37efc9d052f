"""An X server of the tests' own."""

from __future__ import annotations

import os
import select
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

SIZE = "1920x1200x24"


@contextmanager
def xvfb() -> Iterator[str]:
    """Start Xvfb on a display number that is free; gives ``:N``. Skips where there is none."""
    program = shutil.which("Xvfb")
    if program is None:
        pytest.skip("Xvfb is not installed: the viewer's tests need an X server (Debian: apt-get install xvfb)")
    reader, writer = os.pipe()
    server = subprocess.Popen(
        [program, "-displayfd", str(writer), "-screen", "0", SIZE, "-nolisten", "tcp", "-noreset"],
        pass_fds=(writer,), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(writer)
    try:
        number = b""
        while not number.endswith(b"\n"):
            ready, _, _ = select.select([reader], [], [], 20)
            part = os.read(reader, 16) if ready else b""
            if not part:
                pytest.skip("Xvfb does not start here: the viewer's tests need an X server")
            number += part
        yield f":{int(number)}"
    finally:
        os.close(reader)
        server.terminate()
        server.wait(10)
