"""Claims about samples: what is pooled, when replicates agree, what is refused."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from recordings import SESSION
from running import casa
from samples import record_field, sample_of

from casa.errors import InputError
from casa.record import Recording
from casa.samples.pool import sample_figures
from casa.samples.replicates import compare_counts, compare_percentages, largest_difference_percent
from casa.samples.sample import Sample, add_field, new_sample, read_sample, remove_field
from casa.statistics import counts_interval, poisson_interval


@pytest.mark.parametrize(
    ("average", "limit"),
    [(0, 1), (1, 2), (2, 3), (3, 4), (4, 4), (5, 5), (7, 5), (8, 6), (11, 6), (12, 7), (16, 7), (17, 8), (23, 8),
     (24, 9), (34, 9), (35, 10), (50, 10), (65, 10), (66, 9), (77, 8), (88, 7), (89, 6), (95, 5), (97, 4), (100, 1)],
)  # fmt: skip
def test_limits_are_the_manuals(average, limit):
    assert largest_difference_percent(average) == limit


def test_limits_are_those_of_sampling_200_cells():
    """The manual's table is 1.96 sqrt(2 p (100 - p) / 200), to within one."""
    for p in range(1, 100):
        assert abs(largest_difference_percent(p) - 1.96 * np.sqrt(2 * p * (100 - p) / 200)) <= 1.0


def test_two_counts_of_one_sample_differ_by_more_than_the_limit_in_one_of_twenty():
    rng = np.random.default_rng(3)
    pairs = rng.poisson(200, (2000, 2))
    refused = np.mean([not compare_counts(*pair).accepted for pair in pairs.tolist()])
    assert 0.03 < refused < 0.07
    assert compare_percentages(50, 60).accepted
    assert not compare_percentages(44, 56).accepted


def test_fields_are_pooled_by_time_and_by_volume(tmp_path):
    sample = sample_of(tmp_path / "s", ((60, 40, 20, 80), (40, 60, 20, 80)), ((100, 100, 40, 160),), heads=50.0)
    figures = sample_figures(tmp_path / "s", read_sample(tmp_path / "s"))
    pooled = figures.pooled
    assert sample.fields[0].recording == "1-0.h5"
    assert pooled.cells == pytest.approx(800)
    assert [round(pooled.motility_percent[k].value or 0) for k in ("a", "b", "c", "d", "pr", "total")] == [
        25, 25, 10, 40, 50, 60,
    ]  # fmt: skip
    low, high = pooled.motility_percent["pr"].interval or (0, 0)
    assert (low, high) == (pytest.approx(46.5, abs=0.1), pytest.approx(53.5, abs=0.1))
    # 50 heads in 640 x 480 px of 0.25 um2, 20 um deep
    expected = 50 / (640 * 480 * 0.25 * 20) * 1e12 / 1e6
    assert pooled.concentration_m_per_ml.value == pytest.approx(expected)
    assert figures.total_m.value == pytest.approx(2 * expected)
    low, high = pooled.concentration_m_per_ml.interval or (0, 0)
    assert low / expected == pytest.approx(127 / 150, abs=0.01)
    assert high / expected == pytest.approx(176 / 150, abs=0.01)
    assert figures.accepted, figures.reasons


def test_fields_that_differ_widen_the_interval_of_the_concentration(tmp_path):
    sample = new_sample(tmp_path, Sample("S"))
    for index, heads in enumerate((10.0, 50.0, 90.0)):
        path = tmp_path / f"{index}.h5"
        sample = add_field(tmp_path, sample, path, record_field(path, (50, 50, 50, 50), heads), 1)
    estimate = sample_figures(tmp_path, sample).pooled.concentration_m_per_ml
    assert estimate.value is not None
    assert estimate.interval is not None
    assert estimate.interval[1] / estimate.value > 1.5  # Poisson's alone would be 1.18


@pytest.fixture(scope="module")
def coverage():
    path = Path(__file__).parents[2] / "tools" / "simulate_concentration.py"
    spec = importlib.util.spec_from_file_location("simulate_concentration", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.coverage


@pytest.mark.parametrize(("n_fields", "widest"), [(3, 1.65), (5, 1.3), (10, 1.15)])
def test_the_concentrations_interval_holds_the_truth_and_is_no_wider_than_that_needs(coverage, n_fields, widest):
    """The figures of docs/samples.md, on a smaller sample: evenly mixed fields, and such as vary beyond chance."""
    held, _, width = coverage(n_fields, 40.0, 0.0, 1500)
    assert 0.945 < held < 0.98
    assert width < widest  # three fields' Student's, taken always, is twice as wide as Poisson's
    for variation in (0.2, 0.4):
        held, plain, _ = coverage(n_fields, 40.0, variation, 1500)
        assert held > (0.87 if n_fields == 3 else 0.9)
        assert plain < 0.82


def test_an_interval_of_counts_follows_their_sizes():
    even, sizes = np.array([20.0, 40.0, 60.0]), np.array([1.0, 2.0, 3.0])
    assert counts_interval(even, sizes) == poisson_interval(120.0)  # the same density in fields of three sizes
    low, high = counts_interval(even, np.ones(3))
    assert low < poisson_interval(120.0)[0]
    assert high > poisson_interval(120.0)[1]
    assert counts_interval(np.zeros(3), np.ones(3)) == poisson_interval(0.0)


def test_few_cells_one_replicate_and_disagreement_are_told(tmp_path):
    few = sample_figures(tmp_path / "a", sample_of(tmp_path / "a", ((20, 20, 20, 20),)))
    assert len(few.reasons) == 2
    assert "only one replicate" in few.reasons[0]
    assert "80 cells" in few.reasons[1]
    apart = sample_of(tmp_path / "b", ((120, 40, 20, 40),), ((60, 20, 20, 120),))
    reasons = sample_figures(tmp_path / "b", apart).reasons
    assert len(reasons) == 1
    assert "progressive motility: 73 and 36 %" in reasons[0]


def test_a_recording_twice_other_calibrations_and_other_rates_are_refused(tmp_path):
    folder = tmp_path / "s"
    sample = sample_of(folder, ((50, 50, 50, 50),))
    copy = tmp_path / "copy.h5"
    copy.write_bytes((folder / "1-0.h5").read_bytes())
    with pytest.raises(InputError, match=r"already, as 1-0.h5 of replicate 1"):
        add_field(folder, sample, copy, sample.fields[0].recording_id, 2)
    other = SESSION["calibration"] | {"um_per_px_x": 0.6, "name": "other"}
    path = folder / "other.h5"
    mixed = add_field(folder, sample, path, record_field(path, (1, 1, 1, 1), calibration=other), 2)
    with pytest.raises(InputError, match=r"other\.h5: calibration 'other' differs"):
        sample_figures(folder, mixed)
    path = folder / "fast.h5"
    faster = SESSION["source"] | {"fps_hz": 60.0, "sha256": "60"}
    mixed = add_field(folder, sample, path, record_field(path, (1, 1, 1, 1), source=faster), 2)
    with pytest.raises(InputError, match=r"60 frames/s"):
        sample_figures(folder, mixed)
    (folder / "1-0.h5").unlink()
    with pytest.raises(InputError, match=r"1-0\.h5: belongs to sample 'S-1' and is not there"):
        sample_figures(folder, sample)


def test_the_command_goes_from_fields_to_a_result(tmp_path):
    for index, cells in enumerate(((60, 40, 20, 80), (60, 40, 20, 80))):
        record_field(tmp_path / f"{index}.h5", cells)
    assert casa("sample", "new", "s", "--id", "donor 7", "--volume-ml", "3", cwd=tmp_path).returncode == 0
    for replicate in (1, 2):
        done = casa("sample", "add", "s", f"{replicate - 1}.h5", "--replicate", str(replicate), cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    done = casa("sample", "finish", "s", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["accepted"] is True
    assert result["sample"] == "donor 7"
    assert result["motility_percent"]["pr"]["value"] == pytest.approx(50)
    assert result["total_m"]["value"] == pytest.approx(3 * result["concentration_m_per_ml"]["value"])
    table = casa("sample", "finish", "s", cwd=tmp_path).stdout
    assert "PR progressive" in table
    again = casa("sample", "new", "s", "--id", "x", cwd=tmp_path)
    assert again.returncode == 2
    assert again.stderr.count("\n") == 1


def test_the_same_video_or_another_recording_in_its_place_is_refused(tmp_path):
    folder = tmp_path / "s"
    sample = sample_of(folder, ((50, 50, 50, 50),))
    again = folder / "again.h5"
    twice = add_field(folder, sample, again, record_field(again, (1, 1, 1, 1), source=source_of(folder / "1-0.h5")), 2)
    with pytest.raises(InputError, match=r"again\.h5: was made from the same video as .*1-0\.h5 of replicate 1"):
        sample_figures(folder, twice)
    record_field(folder / "new.h5", (1, 1, 1, 1))
    (folder / "new.h5").replace(folder / "1-0.h5")
    with pytest.raises(InputError, match=r"1-0\.h5: is another recording than the one that was added"):
        sample_figures(folder, sample)


def source_of(path):
    with Recording(path) as recording:
        return recording.session["source"]


def test_a_field_without_an_analysed_frame_is_no_empty_field(tmp_path):
    sample = new_sample(tmp_path, Sample("S"))
    path = tmp_path / "nothing.h5"
    sample = add_field(tmp_path, sample, path, record_field(path, (0, 0, 0, 0), None), 1)
    with pytest.raises(InputError, match=r"nothing\.h5: no frame of it was analysed"):
        sample_figures(tmp_path, sample)


def test_a_recording_that_is_gone_can_be_taken_out(tmp_path):
    sample = sample_of(tmp_path, ((50, 50, 50, 50), (50, 50, 50, 50)))
    (tmp_path / "1-0.h5").unlink()
    with pytest.raises(InputError, match=r"is not there; put it back, or `casa sample remove .* 1-0\.h5`"):
        sample_figures(tmp_path, sample)
    with pytest.raises(InputError, match=r"x\.h5: is not in sample 'S-1'; its recordings: 1-0\.h5, 1-1\.h5"):
        remove_field(tmp_path, sample, "x.h5")
    left = remove_field(tmp_path, sample, str(tmp_path / "1-0.h5"))
    assert [f.recording for f in read_sample(tmp_path).fields] == ["1-1.h5"]
    assert sample_figures(tmp_path, left).pooled.n_fields == 1


def test_fields_are_added_all_or_none(tmp_path):
    record_field(tmp_path / "good.h5", (50, 50, 50, 50))
    record_field(tmp_path / "fast.h5", (1, 1, 1, 1), source=SESSION["source"] | {"fps_hz": 60.0, "sha256": "60"})
    assert casa("sample", "new", "s", "--id", "x", cwd=tmp_path).returncode == 0
    done = casa("sample", "add", "s", "good.h5", "fast.h5", "--replicate", "1", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "60 frames/s" in done.stderr
    assert read_sample(tmp_path / "s").fields == ()
