"""Figures of accuracy that may only get better, on fixed inputs: tests/bench/metrics.json (tools/update_metrics.py)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from casa.bench.metrics import GROUPS, KINDS, best_of, is_worse

METRICS = json.loads(Path(__file__).with_name("metrics.json").read_text())


@pytest.mark.parametrize("group", list(GROUPS))
def test_no_figure_got_worse(group: str, shared_data: Path):
    kept, now = METRICS[group], GROUPS[group](shared_data)
    assert now.keys() == kept.keys()
    worse = {name: (kept[name], value) for name, value in now.items() if is_worse(name, kept[name], value)}
    assert not worse, "was, is: " + ", ".join(f"{name} {was:.4f}, {value:.4f}" for name, (was, value) in worse.items())


def test_the_better_of_two_is_kept_and_tolerances_do_not_add_up():
    kept = {"a.hota": 0.8, "a.idsw": 10.0}
    slightly_worse = {"a.hota": 0.8 - 0.9 * KINDS["hota"][1], "a.idsw": 11.0}
    assert not any(is_worse(name, kept[name], value) for name, value in slightly_worse.items())
    assert best_of(kept, slightly_worse) == kept
    assert best_of(kept, {"a.hota": 0.9, "a.idsw": 4.0, "b.ap50": 0.5}) == {"a.hota": 0.9, "a.idsw": 4.0, "b.ap50": 0.5}
    assert is_worse("a.hota", 0.8, 0.79)
    assert is_worse("a.idsw", 10, 12)
    assert is_worse("a.hota", 0.8, float("nan"))
