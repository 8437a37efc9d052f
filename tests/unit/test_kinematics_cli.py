"""casa kinematics and casa evaluate kinematics on tables, calibration profiles, and what is refused in one line."""

import csv
import json

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from casa.calibrate.profile import check_fits, load_profile, write_profile
from casa.cli.evaluate_kinematics import evaluate_kinematics
from casa.cli.kinematics import kinematics
from casa.errors import InputError
from casa.simulate.scene import simulate
from casa.types import Calibration, SourceInfo

app = typer.Typer()
app.command("kinematics")(kinematics)
app.command("evaluate")(evaluate_kinematics)


def run(*arguments):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if isinstance(result.exception, InputError):
        assert "\n" not in str(result.exception)
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture
def tracks_csv(tmp_path):
    """A swimmer of 100 px/s, a still cell, both with a little jitter; no box sizes, as head centres have none."""
    rng = np.random.default_rng(0)
    path = tmp_path / "tracks.csv"
    with open(path, "w") as stream:
        stream.write("frame,track_id,cx_px,cy_px\n")
        for frame in range(150):
            for track in (1, 2, 3, 4):
                x = 50 + (2 * frame if track == 1 else 0) + rng.normal(0, 0.3)
                stream.write(f"{frame},{track},{x:.4f},{100 * track + rng.normal(0, 0.3):.4f}\n")
    return path


def read(path):
    with open(path) as stream:
        return list(csv.DictReader(stream))


def test_a_table_of_head_centres_becomes_a_table_of_kinematics(tracks_csv, tmp_path):
    out = tmp_path / "k.csv"
    result = json.loads(run("kinematics", tracks_csv, "--fps", 50, "--um-per-px", 0.4, "-o", out, "--json"))
    rows = read(out)
    header = ("track_id,n_frames,duration_s,vcl_um_s,vsl_um_s,vap_um_s,lin,str,wob,alh_mean_um,alh_max_um,bcf_hz,"
              "mad_deg,motility_grade")  # fmt: skip
    assert ",".join(list(rows[0])[:14]) == header
    assert [row["motility_grade"] for row in rows] == ["a", "d", "d", "d"]
    assert float(rows[0]["vsl_um_s"]) == pytest.approx(40, rel=0.01)
    assert result["tracks"] == 4
    assert result["motility_percent"]["a"] == pytest.approx(25)
    assert result["concentration_m_per_ml"] is None
    assert not result["jitter_corrected"]
    assert float(rows[1]["vcl_um_s"]) > 6  # off by default: as measured


def test_jitter_is_corrected_for_when_told_to(tracks_csv, tmp_path):
    for jitter in ("auto", "0.3"):
        out = tmp_path / f"{jitter}.csv"
        arguments = ("--fps", 50, "--um-per-px", 0.4, "-o", out, "--jitter-px", jitter, "--drift", "--json")
        result = json.loads(run("kinematics", tracks_csv, *arguments))
        rows = read(out)
        assert result["jitter_corrected"]
        assert result["jitter_px"] == pytest.approx(0.3, rel=0.25)
        assert all(float(row["vcl_um_s"]) < 3 for row in rows[1:])
        assert float(rows[0]["vcl_um_s"]) == pytest.approx(40, rel=0.03)


def test_without_a_scale_um_columns_are_empty(tracks_csv, tmp_path):
    out = tmp_path / "k.csv"
    text = run("kinematics", tracks_csv, "--fps", 50, "-o", out)
    row = read(out)[0]
    assert row["vcl_um_s"] == row["alh_mean_um"] == row["motility_grade"] == ""
    assert float(row["vsl_px_s"]) == pytest.approx(100, rel=0.01)
    assert "px/s" in text


def test_a_profile_gives_scale_chamber_and_frame(tracks_csv, tmp_path):
    out = tmp_path / "k.csv"
    result = json.loads(run("kinematics", tracks_csv, "--fps", 50, "--calibration", "simulator", "-o", out, "--json"))
    volume_ml = 640 * 0.4e-4 * 480 * 0.4e-4 * 20e-4
    assert result["concentration_m_per_ml"] == pytest.approx(4 / volume_ml / 1e6)
    assert result["calibration"]["um_per_px_x"] == 0.4


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--um-per-px", "0.4"], "--fps"),
        (["--fps", "0"], "positive"),
        (["--fps", "50", "--um-per-px", "-1"], "positive"),
        (["--fps", "50", "--jitter-px", "much"], "auto"),
        (["--fps", "50", "--jitter-px", "-1"], "auto"),
        (["--fps", "50", "--calibration", "nowhere"], "nowhere"),
        (["--fps", "50", "--um-per-px", "0.4", "--calibration", "simulator"], "one of them"),
        (["--fps", "50", "--frame-size", "wide"], "640x480"),
        (["--fps", "50", "--calibration", "simulator", "--frame-size", "10x10"], "640x480"),
        (["--fps", "50", "--frames", "0"], "--frames"),
    ],
)
def test_a_wrong_call_is_one_line_and_writes_nothing(tracks_csv, tmp_path, arguments, says):
    out = tmp_path / "k.csv"
    with pytest.raises(InputError, match=says):
        run("kinematics", tracks_csv, "-o", out, *arguments)
    assert not out.exists()


def test_an_output_that_exists_is_kept_without_force(tracks_csv, tmp_path):
    out = tmp_path / "k.csv"
    out.write_text("mine")
    with pytest.raises(InputError, match="--force"):
        run("kinematics", tracks_csv, "--fps", 50, "-o", out)
    assert out.read_text() == "mine"
    run("kinematics", tracks_csv, "--fps", 50, "-o", out, "--force")
    assert out.read_text() != "mine"


def test_an_empty_table_of_tracks_gives_an_empty_table(tmp_path):
    (tmp_path / "t.csv").write_text("frame,track_id,cx_px,cy_px,w_px,h_px\n")
    run("kinematics", tmp_path / "t.csv", "--fps", 50, "--um-per-px", 0.4, "-o", tmp_path / "k.csv")
    assert read(tmp_path / "k.csv") == []


def test_kinematics_agree_with_themselves_and_errors_are_told(tracks_csv, tmp_path):
    true, found = tmp_path / "true.csv", tmp_path / "found.csv"
    run("kinematics", tracks_csv, "--fps", 50, "--um-per-px", 0.4, "-o", true)
    run("kinematics", tracks_csv, "--fps", 50, "--um-per-px", 0.44, "-o", found)
    same = json.loads(run("evaluate", true, "--truth", true, "--json"))
    assert same["vcl"]["max_percent"] == 0
    assert same["grades"]["same_percent"] == 100
    other = json.loads(run("evaluate", found, "--truth", true, "--json"))
    assert other["vcl"]["mean_percent"] == pytest.approx(10, abs=0.01)
    assert other["vap"]["max_percent"] == pytest.approx(10, abs=0.01)
    assert other["tracks"] == {"true": 4, "found": 4, "compared": 4}
    assert "grades" in run("evaluate", found, "--truth", true)


def test_kinematics_in_pixels_or_of_other_tracks_are_not_compared(tracks_csv, tmp_path):
    true, pixels, other = tmp_path / "true.csv", tmp_path / "px.csv", tmp_path / "other.csv"
    run("kinematics", tracks_csv, "--fps", 50, "--um-per-px", 0.4, "-o", true)
    run("kinematics", tracks_csv, "--fps", 50, "-o", pixels)
    with pytest.raises(InputError, match="um/s"):
        run("evaluate", pixels, "--truth", true)
    other.write_text("".join(f"9{line}" if line[0].isdigit() else line for line in true.read_text().splitlines(True)))
    with pytest.raises(InputError, match="track ids"):
        run("evaluate", other, "--truth", true)
    with pytest.raises(InputError, match="vcl_um_s"):
        run("evaluate", tracks_csv, "--truth", true)


def test_the_shipped_profile_is_the_default_scenes():
    profile, scene = load_profile("simulator"), simulate("default", 0, 2)
    exact = scene.calibration()
    for name in ("um_per_px_x", "um_per_px_y", "width_px", "height_px", "chamber_depth_um", "chamber_factor"):
        assert getattr(profile, name) == getattr(exact, name), name


def test_a_profile_that_is_written_is_read_back(tmp_path):
    path = tmp_path / "mine.toml"
    calibration = Calibration('x40 "new"', 0.31, 0.32, 1280, 1024, 0.4, 20.49, 1.3, True, "Leja, µm")
    write_profile(path, calibration)
    assert load_profile(path) == calibration
    with pytest.raises(InputError, match="exists"):
        write_profile(path, calibration)
    write_profile(path, Calibration("bare", 0.5, 0.5), force=True)
    assert load_profile(path) == Calibration("bare", 0.5, 0.5)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("um_per_px_x = 0.4", "um_per_px_y is missing"),
        ("um_per_px_x = 0\num_per_px_y = 0.4", "um_per_px_x: expected a positive"),
        ("um_per_px_x = nan\num_per_px_y = 0.4", "um_per_px_x"),
        ("um_per_px_x = '0.4'\num_per_px_y = 0.4", "expected a number"),
        ("um_per_px_x = 0.4\num_per_px_y = 0.4\nzoom = 3", "zoom: no such key"),
        ("um_per_px_x = 0.4\num_per_px_y = 0.4\nwidth_px = 640", "both width_px and height_px"),
        ("um_per_px_x = 0.4\num_per_px_y = 0.4\nwidth_px = 640.5\nheight_px = 2", "whole number"),
        ("um_per_px_x = 0.4\num_per_px_y = 0.4\nverified = 1", "true or false"),
        ("um_per_px_x = 0.4\num_per_px_y = 0.4\nname = 3", "expected text"),
        ("um_per_px_x = 0.4\num_per_px_y = 0.4\nchamber_depth_um = -20", "chamber_depth_um"),
        ("um_per_px_x 0.4", "cannot be read as TOML"),
        (b"\xff\xfe", "cannot be read as TOML"),
    ],
)
def test_a_bad_profile_is_told_in_one_line(tmp_path, text, says):
    path = tmp_path / "bad.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=says) as error:
        load_profile(path)
    assert "\n" not in str(error.value)
    assert "bad.toml" in str(error.value)


def test_a_calibration_fits_only_the_frame_size_it_was_made_at():
    source = SourceInfo("a.mp4", 640, 480, 50.0, None, "pts")
    check_fits(Calibration("any", 0.4, 0.4), source)
    check_fits(Calibration("same", 0.4, 0.4, 640, 480), source)
    with pytest.raises(InputError, match=r"1280x1024.*640x480"):
        check_fits(Calibration("other", 0.4, 0.4, 1280, 1024), source)
