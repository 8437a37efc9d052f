"""``casa bench grade``: what it measures, in figures that fit together."""

import json

import pytest
import torch
from typer.testing import CliRunner

from casa.bench.grade import bench_grade
from casa.cli.bench import app
from casa.errors import InputError


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("casa.bench.grade.CPU_SPELL_S", 0.05)
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_the_command_measures_the_network_as_it_runs():
    call = ["grade", "--network", "timesformer", "--devices", "cpu", "--threads", "1", "--repeats", "2", "--json"]
    result = CliRunner().invoke(app, call)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    (of,) = found["networks"]
    assert (of["network"], of["size"], of["frames"], of["size_px"]) == ("timesformer", "T", 8, 112)
    assert 0.3 < of["gflop_per_clip"] < 0.5
    for cpu in of["cpu"].values():
        assert 0 < cpu["clips_s_min"] <= cpu["clips_s_median"] <= cpu["clips_s_max"]
        assert cpu["runs"] == 2
        # One thread cannot grade more clips in a second than its own time allows.
        assert cpu["clips_s_median"] * cpu["cpu_ms_per_clip"] < 1000 * 1.5
    assert of["cuda"] is None
    assert "cpu" in found["machine"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sizes": ("XL",)}, "size XL"),
        ({"name": "lstm"}, "no such grading network"),
        ({"devices": ("tpu",)}, "expected cpu, cuda"),
        ({"repeats": 0}, "at least 1"),
    ],
)
def test_what_cannot_be_measured_is_one_line(arguments, message: str):
    with pytest.raises(InputError, match=message) as caught:
        bench_grade(**arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_on_cuda_the_share_of_the_matrix_rate_is_below_one():
    (of,) = bench_grade("rostfine", ("T",), devices=("cuda",), repeats=3)["networks"]
    assert 0 < of["cuda"]["share_of_matrix_rate"] < 1
    assert of["cuda"]["one_clip_ms"] > 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_where_there_is_no_cuda_device_it_is_said():
    with pytest.raises(InputError, match="finds no CUDA device"):
        bench_grade(devices=("cuda",))
