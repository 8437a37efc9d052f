"""What every test shares: where the shared recordings lie, and that no test leaves anything running."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

os.environ.setdefault("YOLO_AUTOINSTALL", "0")
os.environ.setdefault("YOLO_OFFLINE", "1")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real recordings with truth, beside the checkout; tests that need it skip without it."""
    folder = Path(os.environ.get("CASA_SHARED_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "README.md").is_file():
        pytest.skip(f"the shared recordings are not beside the checkout ({folder.name}/ is missing)")
    return folder


def _children() -> set[int]:
    children = set()
    for task in Path("/proc/self/task").glob("*/children"):
        try:
            children.update(int(pid) for pid in task.read_text().split())
        except OSError:
            continue
    return children


@pytest.fixture(autouse=True)
def nothing_left_behind():
    """Fail a test that leaves a Python thread or a child process behind."""
    threads, children = set(threading.enumerate()), _children()
    yield
    deadline = time.monotonic() + 2.0
    while time.monotonic() < deadline:
        left = [t for t in threading.enumerate() if t not in threads and not t.daemon]
        alive = _children() - children
        if not left and not alive:
            return
        time.sleep(0.02)
    pytest.fail(f"left behind: threads {[t.name for t in left]}, child processes {sorted(alive)}")
