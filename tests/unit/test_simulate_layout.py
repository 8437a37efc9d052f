"""What ``casa simulate`` writes can be read back by whatever reads VISEM-Tracking."""

from __future__ import annotations

from dataclasses import replace

import av
import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from casa.cli.simulate import simulate as simulate_command
from casa.errors import CasaError, InputError
from casa.simulate.layout import write_visem_layout
from casa.simulate.scene import SceneConfig, simulate
from casa.tables import read_columns, read_tracks

CONFIG = SceneConfig(
    name="tiny", width_px=160, height_px=128, n_frames=12, cells_per_frame=6.0, dots=20, time_jitter_s=0.002,
    missing_share=0.2,
)  # fmt: skip


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    scene = simulate(CONFIG, 3)
    return scene, write_visem_layout(scene, tmp_path_factory.mktemp("layout"), images=True)


def test_labels_hold_the_boxes_of_the_truth_as_fractions(written):
    scene, folder = written
    truth = scene.truth()
    assert scene.missing.any()
    for index in range(len(scene)):
        plain = folder / "labels" / f"tiny_3_frame_{index}.txt"
        if scene.missing[index]:
            assert not plain.exists()
            continue
        rows = truth.select(truth.frame == index)
        boxes = np.loadtxt(plain, ndmin=2).reshape(-1, 5)
        ids = np.loadtxt(folder / "labels_ftid" / plain.name, ndmin=2).reshape(-1, 6)
        assert (boxes[:, 0] == 0).all()
        assert ids[:, 0].tolist() == rows.track_id.tolist()
        np.testing.assert_array_equal(ids[:, 1:], boxes)
        size = [160, 128, 160, 128]
        wanted = np.stack([rows.cx_px, rows.cy_px, rows.w_px, rows.h_px], axis=1) / size
        np.testing.assert_allclose(boxes[:, 1:], wanted, atol=1e-6)


def test_the_video_has_the_pictures_at_their_own_times(written):
    scene, folder = written
    with av.open(str(folder / "tiny_3.mp4")) as container:
        frames = [(float(f.time), f.to_ndarray(format="rgb24")) for f in container.decode(video=0)]
    shown = np.flatnonzero(~scene.missing)
    assert len(frames) == len(shown)
    np.testing.assert_allclose([t for t, _ in frames], scene.t_ns[shown] / 1e9, atol=1e-4)
    for (_, image), index in zip(frames, shown.tolist(), strict=True):
        difference = image.astype(int) - scene.frame(index).image
        assert np.abs(difference).mean() < 6
        assert (folder / "images" / f"tiny_3_frame_{index}.jpg").stat().st_size > 1000


def test_truth_tables_read_back(written):
    scene, folder = written
    truth, tracks = scene.truth(), read_tracks(folder / "truth.csv.gz")
    np.testing.assert_array_equal(tracks.track_id, truth.track_id)
    np.testing.assert_allclose(tracks.x_measured_px, truth.x_measured_px, atol=1e-4)
    np.testing.assert_array_equal(tracks.t_ns, truth.t_ns)
    table = read_columns(folder / "kinematics_truth.csv", ("track_id", "vcl_um_s"))
    np.testing.assert_allclose(table["vcl_um_s"], scene.kinematics_truth().vcl_um_s, rtol=1e-5)


def test_an_interlaced_recording_keeps_its_fields_through_the_file(tmp_path):
    config = replace(CONFIG, interlaced=True, fps_hz=30.0, n_frames=3, missing_share=0.0, time_jitter_s=0.0)
    scene = simulate(config, 1)
    folder = write_visem_layout(scene, tmp_path)
    with av.open(str(folder / "tiny_1.mp4")) as container:
        frames = list(container.decode(video=0))
    assert all(frame.interlaced_frame for frame in frames)
    assert np.abs(frames[1].to_ndarray(format="rgb24").astype(int) - scene.frame(1).image).mean() < 6


def test_a_recording_that_exists_is_refused_and_replaced_on_demand(tmp_path):
    scene = simulate(replace(CONFIG, n_frames=2), 1)
    folder = write_visem_layout(scene, tmp_path)
    (folder / "old").touch()
    with pytest.raises(InputError, match="--force"):
        write_visem_layout(scene, tmp_path)
    assert not (write_visem_layout(scene, tmp_path, force=True) / "old").exists()


def test_a_folder_that_cannot_be_made_is_one_clear_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CasaError, match="cannot be written"):
        write_visem_layout(simulate(replace(CONFIG, n_frames=2), 1), tmp_path / "file")


def test_the_command_writes_the_preset_asked_for(tmp_path):
    app = typer.Typer()
    app.command()(simulate_command)
    call = ["-o", str(tmp_path), "--preset", "sparse", "--seed", "4", "--frames", "3"]
    result = CliRunner().invoke(app, call)
    assert result.exit_code == 0
    assert result.stdout.strip() == str(tmp_path / "sparse_4")
    assert len(list((tmp_path / "sparse_4" / "labels").iterdir())) == 3
    assert isinstance(CliRunner().invoke(app, call).exception, InputError)
    assert isinstance(CliRunner().invoke(app, [*call, "--preset", "no"]).exception, InputError)
