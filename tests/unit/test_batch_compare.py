"""Claims about comparing two runs: what is paired, what moved, and what of the settings is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from recordings import write_recording

from casa.batch.compare import Run, compare, read_run
from casa.batch.settings import bearing, differences, fingerprint
from casa.config import Config
from casa.errors import InputError


def run(path: str, values: dict[str, float | None], sums: bool = True, **settings: Any) -> Run:
    rows = [
        {"recording": name, "sha256": f"sum {name[-1]}" if sums else None, "n_tracks": v} for name, v in values.items()
    ]
    return Run(path, rows, [settings] * len(rows))


def test_recordings_are_paired_by_content_whatever_they_are_called():
    found = compare(run("A", {"a1": 10, "a2": 20}), run("B", {"b2": 26, "b1": 14, "b3": 1}))
    (change,) = found.changes
    assert (found.pairs, found.only_first, found.only_second) == (2, [], ["b3"])
    assert (change.figure, change.first, change.second, change.difference) == ("n_tracks", 15, 20, 5)
    assert change.most == ("a2", 6)


def test_without_sums_they_are_paired_by_name():
    found = compare(run("A", {"x": 10, "y": 20}, sums=False), run("B", {"x": 11, "z": 5}))
    assert (found.pairs, found.only_first, found.only_second) == (1, ["y"], ["z"])
    assert found.changes[0].interval is None
    assert found.changes[0].moved


def test_a_figure_moved_where_its_interval_leaves_out_zero():
    one = {f"r{k}": 10.0 for k in range(8)}
    # differences 1 and -1 in turn, then 0.9 to 1.1: Student's t for 7 degrees of freedom is 2.365
    jitter = compare(run("A", one), run("B", {n: 10 + (-1) ** k for k, n in enumerate(one)})).changes[0]
    assert jitter.difference == 0
    assert not jitter.moved
    assert jitter.interval == pytest.approx((-0.8939, 0.8939), abs=1e-3)  # 2.3646 * 1.0690 / sqrt(8)
    shift = compare(run("A", one), run("B", {n: 11 + 0.1 * (-1) ** k for k, n in enumerate(one)})).changes[0]
    assert shift.moved
    assert shift.n_changed == 8


def test_what_is_unknown_on_a_side_is_left_out():
    found = compare(run("A", {"x": None, "y": 4}), run("B", {"x": 3, "y": 5}))
    assert [(c.figure, c.n, c.difference) for c in found.changes] == [("n_tracks", 1, 1)]


def test_nothing_in_common_is_told():
    for sums in (True, False):
        with pytest.raises(InputError, match="no recording in common"):
            compare(run("A", {"x": 1, "z": 2}, sums), run("B", {"y": 1}, sums))


@pytest.mark.parametrize("sums", [True, False])
def test_the_only_recordings_of_two_runs_are_a_pair(sums: bool):
    found = compare(run("A", {"simulator_default_1": 10}, sums), run("B", {"run.b": 14}, sums))
    assert (found.pairs, found.alone, found.differ) == (1, ("simulator_default_1", "run.b"), sums)
    assert (found.only_first, found.only_second, found.changes[0].difference) == ([], [], 4)
    assert compare(run("A", {"x": 1}), run("B", {"x": 2})).alone is None


def test_what_differs_in_the_settings_is_told_once():
    one = run("A", {"x": 1, "y": 2}, networks={"detect": {"name": "sperm"}}, calibration=None)
    two = run("B", {"x": 1, "y": 2}, networks={"detect": {"name": "other"}}, calibration=None)
    assert compare(one, two).settings == {"networks.detect.name": (["sperm"], ["other"])}


def test_recordings_are_read_as_runs_of_one(tmp_path: Path):
    path = write_recording(tmp_path / "run.h5", 20)
    found = compare(read_run(str(path)), read_run(str(path)))
    assert (found.pairs, found.settings) == (1, {})
    assert not any(change.moved for change in found.changes)
    with pytest.raises(InputError, match="no data set"):
        read_run(str(tmp_path))


def test_threads_and_edges_have_no_bearing_and_thresholds_do():
    plain = Config().model_dump(mode="json")
    threads = Config.model_validate({"detect": {"threads": 3}, "graph": {"runner": "serial"}}).model_dump(mode="json")
    stricter = Config.model_validate({"detect": {"confidence": 0.2}}).model_dump(mode="json")
    assert fingerprint(bearing(plain)) == fingerprint(bearing(threads))
    assert differences(bearing(plain), bearing(stricter)) == {"detect.confidence": (0.1, 0.2)}
    heads = Config.model_validate({"morphology": {"enabled": True}}).model_dump(mode="json")
    assert differences(bearing(plain), bearing(heads)) == {"morphology.enabled": (False, True)}
