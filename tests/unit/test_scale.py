"""docs/scale.md says what its arithmetic gives, and that counts what the code does."""

from __future__ import annotations

import importlib.util
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from casa.batch.inputs import Item
from casa.batch.plan import make_plan, mark_name, results_of
from casa.batch.settings import resolved
from casa.batch.store import RemoteStore
from casa.config import Config

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def scale():
    spec = importlib.util.spec_from_file_location("measure_scale", ROOT / "tools" / "measure_scale.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["measure_scale"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules["measure_scale"]


@pytest.mark.parametrize("table", ["given", "storage", "computing", "keeping", "networks"])
def test_the_page_has_what_the_arithmetic_gives(scale, table: str):
    lines = getattr(scale, table)(scale.Archive())
    assert lines
    for line in lines:
        assert line in PAGE, "docs/scale.md has other figures: python tools/measure_scale.py"


def test_the_arithmetic_counts_what_an_object_store_is_asked(scale, tmp_path: Path, monkeypatch):
    store, calls = RemoteStore("memory://scale", create=True), Counter[str]()
    file_system = type(store._fs)

    def counted(name: str) -> Callable[..., Any]:
        real = getattr(file_system, name)

        def call(*args: Any, **named: Any) -> Any:
            calls[name] += 1
            return real(*args, **named)

        return call

    for name in ("put_file", "pipe_file", "cp_file", "ls"):
        monkeypatch.setattr(file_system, name, counted(name))
    (tmp_path / "result").write_bytes(b"x")
    config, item = resolved(Config(), cluster=False, gpus=0), Item("simulator:default:1", "one")
    try:
        make_plan([item], store, config)
        calls.clear()
        for kind, name in results_of("one").items():
            if kind in ("recording", "recordings", "tracks", "kinematics"):
                store.put(tmp_path / "result", name)
        store.claim(mark_name("one"), b"{")  # a broken one: nothing is finished
        archive = scale.Archive()
        assert calls["put_file"] + calls["pipe_file"] + calls["cp_file"] == archive.requests[0] / archive.recordings
        calls.clear()
        make_plan([item], store, config)
        assert f"lists {calls['ls']} folders" in PAGE
    finally:
        store._fs.rm("/scale", recursive=True)
