"""The grader: both backends, what it is given and what it gives, attention and its picture."""

import csv
import gzip
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from casa.bus.cell_messages import GradeFailed, GradesMessage, Work
from casa.bus.convert import clip_message
from casa.cells import EXPERT_GRADES, NO_NUMBERS, Clip, ClipFlag
from casa.cli.grade import app
from casa.clips import write_clips
from casa.engine.grader import GradeWorker
from casa.errors import CasaError, InputError
from casa.grade.build import build_network
from casa.grade.checkpoints import save_network
from casa.grade.export import export_onnx
from casa.grade.model import Grader
from casa.grade.prepare import clip_fault, frame_indices, gray_pictures, images_fault, prepare
from casa.grade.rollout import draw_attention
from casa.weights import ModelEntry, file_sha256, write_manifest


def clip(number: int = 1, frames: int = 16, size_px: int = 150) -> Clip:
    """A head that swims over a ground of noise."""
    random = np.random.default_rng(number)
    y, x = np.mgrid[:size_px, :size_px]
    images = np.empty((frames, size_px, size_px), np.uint8)
    for k in range(frames):
        head = 120 * np.exp(-((x - 75 - 2 * np.sin(k + number)) ** 2 / 60 + (y - 75) ** 2 / 25))
        images[k] = 80 + head + random.normal(0, 6, head.shape)
    flags = np.zeros(frames, np.int64)
    flags[3], flags[5] = ClipFlag.BORDER, ClipFlag.LOST
    return Clip(
        clip_id=number,
        track_id=number + 100,
        frames=np.arange(frames, dtype=np.int64) + 40,
        t_ns=np.arange(frames, dtype=np.int64) * 66_666_667,
        images=images,
        centre_xy_px=np.full((frames, 2), 300.0),
        score=np.full(frames, 0.9, np.float32),
        flags=flags,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Networks of the quick size with weights at random, in a folder with a manifest."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    network = build_network("rostfine", "T")
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.15)
    save_network(network, folder / "random.pt", {"seed": 0})
    export_onnx(network, folder / "random.onnx", {"seed": 0})
    save_network(build_network("r3d", "T"), folder / "r3d.pt")
    files = {
        kind: (folder / name, file_sha256(folder / name))
        for kind, name in {"onnx": "random.onnx", "state": "random.pt"}.items()
    }
    entry = ModelEntry("random", "grade", folder, files, licence="none", trained_on="nothing", card="random.md")
    write_manifest(folder, {"random": entry})
    return folder


@pytest.fixture(scope="module")
def clips() -> list[Clip]:
    return [clip(number) for number in range(1, 6)]


@pytest.fixture(scope="module")
def graders(folder: Path) -> dict[str, Grader]:
    return {
        "torch": Grader(str(folder / "random.pt"), device="cpu", backend="torch", threads=1, batch=2),
        "openvino": Grader(str(folder / "random.onnx"), device="cpu", threads=1, batch=2),
    }


def test_both_backends_give_the_same_distributions(graders: dict[str, Grader], clips: list[Clip]):
    tables = {name: grader.grade(clips) for name, grader in graders.items()}
    for name in ("distribution", "part_global", "part_spatial", "part_temporal"):
        np.testing.assert_allclose(getattr(tables["torch"], name), getattr(tables["openvino"], name), atol=2e-5)
    attention = [grader.attention(clips[0]) for grader in graders.values()]
    np.testing.assert_allclose(*attention, atol=1e-4)
    assert np.ptp(tables["torch"].distribution, axis=0).max() > 1e-3  # the clips do not all look the same to it


@pytest.mark.parametrize("sizes", [{"selected": 3, "branch_heads": 4}, {"heads": 8, "frames": 8}, {"selected": 7}])
def test_as_many_tokens_as_heads_are_no_trouble(tmp_path: Path, sizes: dict[str, int]):
    """OpenVINO 2026.4 fuses attention wrongly where the two numbers are equal; what is exported keeps them apart."""
    torch.manual_seed(2)
    network = build_network("rostfine", "T", depth=1, **sizes)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.15)
    save_network(network, tmp_path / "n.pt")
    export_onnx(network, tmp_path / "n.onnx")
    tables = [
        Grader(str(tmp_path / name), device="cpu", threads=1).grade([clip(7)]).part_spatial
        for name in ("n.pt", "n.onnx")
    ]
    np.testing.assert_allclose(*tables, atol=2e-5)


def test_a_table_has_a_row_for_each_clip(graders: dict[str, Grader], clips: list[Clip]):
    table = graders["openvino"].grade(clips)
    assert table.clip_id.tolist() == [1, 2, 3, 4, 5]
    assert table.track_id.tolist() == [101, 102, 103, 104, 105]
    assert set(table.frame) == {55}
    assert set(table.t_ns) == {15 * 66_666_667}
    assert set(table.clip_flags) == {ClipFlag.BORDER | ClipFlag.LOST}
    np.testing.assert_allclose(table.distribution.sum(1), 1, atol=1e-12)
    mean = (table.part_global + table.part_spatial + table.part_temporal) / 3
    np.testing.assert_allclose(table.distribution, mean, atol=1e-12)
    assert len(graders["openvino"].grade([])) == 0


def without_numbers(grader: Grader, which: set[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the network fail for some of the clips that it is asked about, by their place."""
    distributions, asked = grader._backend.distributions, iter(range(1000))

    def some(pictures: np.ndarray) -> np.ndarray:
        found = distributions(pictures)
        for row in found:
            row[:] = np.nan if next(asked) in which else row
        return found

    monkeypatch.setattr(grader._backend, "distributions", some)


def test_of_a_clip_without_numbers_there_is_no_grade_and_of_the_others_there_is(
    graders: dict[str, Grader], clips: list[Clip], monkeypatch: pytest.MonkeyPatch
):
    grader = graders["torch"]
    alone = grader.grade(clips)
    without_numbers(grader, {1}, monkeypatch)
    found = grader.grade(clips)
    assert found.clip_id.tolist() == [1, 3, 4, 5]
    assert np.allclose(found.distribution, alone.distribution[[0, 2, 3, 4]])
    monkeypatch.undo()
    without_numbers(grader, {0, 6, 7}, monkeypatch)
    work = [Work(clip=clip_message(one)) for one in clips[:3]]
    answers = GradeWorker(grader).answers(work)
    assert [type(answer) for answer in answers] == [GradeFailed, GradesMessage, GradesMessage]
    assert answers[0].reason == NO_NUMBERS
    monkeypatch.undo()
    without_numbers(grader, {0, 1, 2}, monkeypatch)
    with pytest.raises(CasaError, match=NO_NUMBERS):  # a network that fails again and again is given up
        GradeWorker(grader).answers(work)


def test_a_folder_is_graded_by_the_command_line(
    folder: Path, clips: list[Clip], graders: dict[str, Grader], tmp_path: Path
):
    write_clips(tmp_path / "clips", clips)
    call = ["predict", str(tmp_path / "clips"), "--weights", str(folder / "random.onnx"), "--threads", "1", "--json"]
    done = CliRunner().invoke(app, [*call, "-o", str(tmp_path / "grades.csv.gz")])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert (told["clips"], told["graded"], told["failed"], told["tracks"]) == (5, 5, {}, 5)
    with gzip.open(tmp_path / "grades.csv.gz", "rt") as stream:
        rows = list(csv.DictReader(stream))
    assert [int(row["track_id"]) for row in rows] == [one.track_id for one in clips]
    shares = [[float(row[grade]) for grade in EXPERT_GRADES] for row in rows]
    np.testing.assert_allclose(shares, graders["openvino"].grade(clips).distribution, atol=1e-6)
    taken = tmp_path / "taken"
    taken.mkdir()
    again = CliRunner().invoke(app, [*call, "-o", str(taken), "--force"])
    assert isinstance(again.exception, CasaError)
    assert str(again.exception) == f"{taken}: cannot be written (Is a directory); choose another -o"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_of_a_network_with_one_head_the_other_parts_are_missing(folder: Path, clips: list[Clip]):
    grader = Grader(str(folder / "r3d.pt"), device="cpu", threads=1)
    table = grader.grade(clips[:1])
    np.testing.assert_array_equal(table.distribution, table.part_global)
    assert np.isnan(table.part_spatial).all()
    assert np.isnan(table.part_temporal).all()
    with pytest.raises(InputError, match="has no attention to show"):
        grader.attention(clips[0])


def test_attention_is_a_map_of_patches_for_each_frame_seen(graders: dict[str, Grader], clips: list[Clip]):
    maps = graders["openvino"].attention(clips[0])
    assert maps.shape == (8, 8, 8)
    assert maps.dtype == np.float32
    np.testing.assert_allclose(maps.max(axis=(1, 2)), 1)
    assert maps.min() >= 0


def test_the_picture_of_attention_is_bright_where_the_map_is():
    maps = np.full((8, 8, 8), 0.6, np.float32)
    maps[:, :, 0] = 0  # not looked at
    maps[:, 2, 5] = 1
    drawn = draw_attention(clip(), maps)
    assert drawn.shape == (300, 8 * 150, 3)
    plain, over = drawn[:150, :150].astype(int), drawn[150:, :150].astype(int)
    changed = np.abs(over - plain).sum(-1)
    y, x = np.unravel_index(np.argmax(changed), changed.shape)
    assert 2 * 150 / 8 <= y <= 3 * 150 / 8
    assert 5 * 150 / 8 <= x <= 6 * 150 / 8
    assert np.array_equal(plain[..., 0], clip().images[0])
    assert changed[100:].max() == 0  # what was looked at no more than the rest is left as it is


def test_what_a_network_sees_is_spread_over_the_clip():
    assert frame_indices(16, 8).tolist() == [0, 2, 4, 6, 8, 10, 12, 15]
    assert frame_indices(16, 16).tolist() == list(range(16))


def test_gray_levels_are_normalised_and_pictures_resized():
    images = np.zeros((1, 16, 150, 150), np.uint8)
    images[0, :, :, 75:] = 255
    pictures = gray_pictures(images, 8, 112)
    assert pictures.shape == (1, 8, 112, 112)
    assert pictures.dtype == np.float32
    np.testing.assert_allclose(pictures[0, 0, 5, [0, 111]], [-0.45 / 0.225, 0.55 / 0.225], rtol=1e-5)
    assert pictures.mean() == pytest.approx(0.05 / 0.225, abs=0.01)
    whole = prepare([clip()], 16, 150)
    assert whole.shape == (1, 3, 16, 150, 150)
    np.testing.assert_allclose(whole[0, 2, 7] * 0.225 + 0.45, clip().images[7] / 255, atol=1e-6)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (clip(frames=15), "15 frames, expected 16"),
        (clip(size_px=100), "100x100 px, expected 150x150"),
        (replace(clip(), images=np.zeros((16, 150, 150), np.uint8)), "all black"),
        (replace(clip(), images=np.full((16, 150, 150), 90, np.uint8)), r"all of one gray level \(90\)"),
    ],
    ids=["length", "size", "black", "even"],
)
def test_clips_that_cannot_be_graded_are_one_line(graders: dict[str, Grader], bad: Clip, message: str):
    for use in (lambda: graders["openvino"].grade([clip(), bad]), lambda: graders["openvino"].attention(bad)):
        with pytest.raises(InputError, match=message) as caught:
            use()
        assert "\n" not in str(caught.value)
        assert "clip 1 of track 101" in str(caught.value)
    assert clip_fault(bad)
    assert clip_fault(clip()) is None


def test_pictures_that_are_not_numbers_are_told():
    images = clip().images.astype(np.float32)
    images[3, 2, 1] = np.nan
    assert images_fault(images) == "gray levels that are not finite numbers"
    assert "float32, expected uint8" in str(images_fault(clip().images.astype(np.float32)))
    assert "got the shape (16, 150)" in str(images_fault(clip().images[0, :16]))


def test_weights_are_those_of_the_manifest_or_refused(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("casa.weights.resource_dir", lambda kind: folder)
    grader = Grader("random", device="cpu", threads=1)
    assert (grader.info.backend, grader.info.licence, grader.info.card) == ("openvino", "none", "random.md")
    assert grader.info.network == "rostfine T (paper)"
    with pytest.raises(InputError, match=r"no such grade network \(known: random\)"):
        Grader("sperm", device="cpu")
    for name in ("manifest.toml", "random.onnx"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    with (tmp_path / "random.onnx").open("ab") as stream:
        stream.write(b"\0")
    with pytest.raises(InputError, match="sha256"):
        Grader(str(tmp_path / "random.onnx"), device="cpu")


@pytest.mark.parametrize("name", ["a.onnx", "a.pt"])
@pytest.mark.parametrize("content", [b"", b"not a network" * 50], ids=["empty", "noise"])
def test_files_that_are_no_networks_are_one_line(tmp_path: Path, name: str, content: bytes):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=name) as caught:
        Grader(str(tmp_path / name), device="cpu")
    assert "\n" not in str(caught.value)


def test_calls_that_cannot_be_are_one_line(folder: Path):
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="no CUDA device"):
            Grader(str(folder / "random.pt"), device="cuda")
    with pytest.raises(InputError, match="openvino runs on the CPU"):
        Grader(str(folder / "random.onnx"), device="cuda", backend="openvino")
    with pytest.raises(InputError, match="batch 0"):
        Grader(str(folder / "random.onnx"), batch=0)


def test_grading_on_a_cpu_loads_no_pytorch(folder: Path):
    code = (
        "import sys\nfrom casa.grade.model import Grader\n"
        f"Grader({str(folder / 'random.onnx')!r}, device='cpu', threads=1)\nprint('torch' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"
