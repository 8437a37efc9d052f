"""The report of real, small recordings: what it shows, what it shouts, and what it refuses."""

from __future__ import annotations

import re
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import typer
from pages import Page
from typer.testing import CliRunner

from casa.cli.report import report as report_command
from casa.config import Config
from casa.errors import CasaError, InputError
from casa.record import Recorder, Recording
from casa.record.recovery import recover
from casa.report import write_report
from casa.types import (
    Calibration,
    FrameAccount,
    FrameStatus,
    KinematicsFlag,
    KinematicsTable,
    SourceInfo,
    Summary,
    Tracks,
)

FPS_HZ = 60.0
N_FRAMES = 90
WIDTH, HEIGHT = 320, 240
CALIBRATION = Calibration("bench", 0.5, 0.5, WIDTH, HEIGHT, 2.0, 20.0, 1.0, True)


@dataclass
class Case:
    """What a recording to report on is made of."""

    calibration: Calibration | None = CALIBRATION
    status: str = "complete"
    fps_hz: float = FPS_HZ
    n_frames: int = N_FRAMES
    n_sperm: int = 8
    uri: str = "videos/field 7.mp4"
    failed: int = 0
    timestamps: str = "pts"
    with_summary: bool = True
    interlaced: bool = False
    fields: int = 1


def kinematics_of(case: Case) -> KinematicsTable:
    n, um = case.n_sperm, case.calibration is not None
    ids = np.arange(1, n + 1)
    vsl_px = 20.0 * (ids % 4)  # 20, 40, 60, 0 px/s: grades b, b, a, d at 0.5 um/px
    speeds = {"vcl": vsl_px * 1.5 + 2, "vsl": vsl_px, "vap": vsl_px * 1.2 + 1}
    scale = 0.5 if um else np.nan
    grades = np.array(["dbba"[k % 4] for k in ids]) if um else np.full(n, "")
    seconds = case.n_frames / case.fps_hz
    flags = KinematicsFlag.LOW_FRAME_RATE * (case.fps_hz < 50) | (0 if um else KinematicsFlag.UNCALIBRATED)
    return KinematicsTable(
        track_id=ids,
        n_frames=np.full(n, case.n_frames),
        t_start_ns=np.zeros(n),
        duration_s=np.full(n, seconds),
        **{f"{name}_um_s": v * scale for name, v in speeds.items()},
        **{f"{name}_px_s": v for name, v in speeds.items()},
        lin=speeds["vsl"] / speeds["vcl"],
        str=speeds["vsl"] / speeds["vap"],
        wob=speeds["vap"] / speeds["vcl"],
        alh_mean_um=np.full(n, 4.0) * scale,
        alh_max_um=np.full(n, 6.0) * scale,
        alh_mean_px=np.full(n, 4.0),
        alh_max_px=np.full(n, 6.0),
        bcf_hz=np.full(n, 11.0),
        mad_deg=np.full(n, 40.0),
        motility_grade=grades,
        time_by_grade_s=np.stack([np.where(grades == g, seconds, 0.0) for g in "abcd"], axis=1),
        flags=np.full(n, flags),
    )


def summary_of(case: Case, kinematics: KinematicsTable) -> Summary:
    known = case.calibration is not None and case.n_sperm > 0
    seconds = kinematics.time_by_grade_s.sum(axis=0)
    percent = dict(zip("abcd", (100 * seconds / seconds.sum()).tolist(), strict=True)) if known else {}
    percent |= {"pr": percent["a"] + percent["b"], "total": 100 - percent["d"]} if known else {}
    return Summary(
        n_tracks=case.n_sperm,
        heads_per_frame=float(case.n_sperm),
        concentration_m_per_ml=case.n_sperm / (WIDTH * HEIGHT * 0.25 * 20) * 1e6 if case.calibration else None,
        motility_percent={key: percent.get(key) for key in ("a", "b", "c", "d", "pr", "total")},
        graded_time_s=float(seconds.sum()),
        drift_px_s=(0.1, 0.1),
        jitter_px=0.1,
    )


def make(path: Path, case: Case, killed_copy: Path | None = None) -> Path:
    """Record ``case``; ``killed_copy`` gets what would be left, had the session been killed after its last frame."""
    rng = np.random.default_rng(5)
    start = rng.uniform(60, 180, (case.n_sperm, 2))
    source = SourceInfo(case.uri, WIDTH, HEIGHT, case.fps_hz, case.n_frames, case.timestamps, case.interlaced)
    recorder = Recorder(path)
    recorder.open(
        {
            "casa_version": "0.1.0",
            "created_utc": "2026-03-04T05:06:07+00:00",
            "command": "replay field.mp4",
            "source": asdict(source) | {"sha256": "5" * 64},
            "config": Config().model_dump(mode="json"),
            "calibration": asdict(case.calibration) if case.calibration else None,
            "model": {"name": "sperm", "file": "sperm.onnx", "sha256": "7" * 64, "licence": "AGPL-3.0-or-later"},
            "machine": {"cpu": "a CPU", "cores": 2, "platform": "Linux", "python": "3.11"},
        }
    )
    ids = np.arange(1, case.n_sperm + 1)
    for index in range(case.n_frames):
        t_ns = round(index * 1e9 / case.fps_hz)
        if index == 0:
            recorder.picture(index, t_ns, rng.integers(0, 255, (HEIGHT, WIDTH, 3)).astype(np.uint8))
        xy = start + np.stack([20.0 * (ids % 4) * t_ns / 1e9, np.zeros(case.n_sperm)], axis=1)
        missed = (ids == 1) & (index == 40)
        recorder.tracks(
            Tracks(
                index,
                t_ns,
                ids,
                np.concatenate([xy - 8, xy + 8], axis=1),
                np.where(missed[:, None], np.nan, xy),
                np.ones(case.n_sperm),
                missed,
                np.zeros((case.n_sperm, 2)),
                np.empty(0),
            )
        )
        failed = index >= case.n_frames - case.failed
        frame, field = divmod(index, case.fields)
        recorder.frame(
            frame, field, t_ns, FrameStatus.FAILED if failed else FrameStatus.PROCESSED, "torn" if failed else ""
        )
    if killed_copy is not None:
        for suffix in (".h5.journal", ".h5.partial"):
            shutil.copy(path.with_suffix(suffix), killed_copy.with_suffix(suffix))
    kinematics = kinematics_of(case)
    if case.n_sperm:
        recorder.kinematics(kinematics)
    account = FrameAccount(case.n_frames, case.n_frames - case.failed, 0, 0, case.failed)
    summary = summary_of(case, kinematics) if case.with_summary else None
    recorder.finish(case.status, account, summary, {"p50": 12.5, "p99": 30.25})
    return path


def report_of(tmp_path: Path, case: Case) -> tuple[str, Page]:
    out = tmp_path / "report.html"
    write_report(make(tmp_path / "run.h5", case), out)
    source = out.read_text(encoding="utf-8")
    return source, Page(source)


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory) -> tuple[Path, str, Page]:
    folder = tmp_path_factory.mktemp("calibrated")
    source, page = report_of(folder, Case())
    return folder / "run.h5", source, page


def test_figures_are_those_of_the_recording(calibrated):
    path, _, page = calibrated
    with Recording(path) as recording:
        summary, kinematics = recording.summary(), recording.kinematics()
    assert summary is not None
    expected = [summary.concentration_m_per_ml, *summary.motility_percent.values(), summary.n_tracks]
    expected += [float(np.median(kinematics.vcl_um_s)), float(np.median(kinematics.vap_um_s))]
    for value in expected:
        assert any(abs(value - shown) < 1e-9 * max(1, abs(value)) for shown in page.values()), value
    assert "50 %" in page.text  # PR of grades b, b, a, d
    assert "12.5 ms" in page.text
    assert "90 captured = 90 processed + 0 skipped + 0 dropped + 0 failed" in page.text


def test_it_needs_nothing_from_elsewhere(calibrated):
    _, source, page = calibrated
    for tag, attributes in page.elements:
        assert tag not in {"script", "link", "iframe", "object"}
        for name in ("src", "href", "xlink:href", "srcset"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:", "#")), (tag, value)
    style = source.split("<style>")[1].split("</style>")[0]
    assert "@import" not in style
    assert "url(" not in style
    assert not re.search(r"https?://", source)


def test_pictures_and_tables_can_be_read_without_seeing_them(calibrated):
    _, _, page = calibrated
    drawings = [a for tag, a in page.elements if tag == "svg" and a.get("role") == "img"]
    assert len(drawings) >= 9  # three strips, motility, overlay, two plots of paths, three histograms
    assert all(a["aria-label"] for a in drawings)
    assert all(
        a.get("role") == "img" or a.get("aria-hidden") == "true" or "x" in a for t, a in page.elements if t == "svg"
    )
    assert sum(tag == "table" for tag, _ in page.elements) == sum(tag == "thead" for tag, _ in page.elements) == 3
    assert all("scope" in a for tag, a in page.elements if tag == "th")
    assert next(a for tag, a in page.elements if tag == "html")["lang"] == "en-GB"


def test_every_track_is_drawn_in_its_grade(calibrated):
    path, source, page = calibrated
    field = source.split('class="field-plot"')[1].split("</figure>")[0]
    with Recording(path) as recording:
        grades = recording.kinematics().motility_grade
    for letter in "abd":
        assert field.count(f'class="track t-{letter}"') == int((grades == letter).sum())
    assert "8 tracked sperm" in page.text


def test_limits_and_disclaimer_stand_in_it(calibrated):
    page = calibrated[2]
    for words in ("≥ 16 M/mL", "≥ 42 %", "≥ 30 %", "not a diagnosis", "Fewer than 200 sperm", "100 ms", "7" * 64):
        assert words in page.text
    assert "µm/s" in page.text
    assert "px/s" not in page.text.replace("0.1, 0.1 px/s", "")


def test_without_a_calibration_it_speaks_of_pixels_and_says_so(tmp_path):
    source, page = report_of(tmp_path, Case(calibration=None))
    assert page.text.count("Not calibrated") >= 2
    assert "VCL (px/s)" in page.text
    assert "µm/s)" not in source.split("Velocities")[1]
    assert "not known: no calibration" in page.text
    assert "95 % interval" not in page.text.split("Before relying")[0]


@pytest.mark.parametrize("status", ["interrupted", "failed"])
def test_a_recording_that_is_not_whole_is_shouted(tmp_path, status):
    source, page = report_of(tmp_path, Case(status=status, failed=3))
    assert status.upper() in page.text
    assert 'role="alert"' in source
    assert "Of 90 frames 3 failed" in page.text


def test_a_recovered_recording_is_shouted(tmp_path):
    killed = tmp_path / "killed.h5"
    make(tmp_path / "run.h5", Case(), killed)
    recover(killed)
    write_report(killed, tmp_path / "report.html")
    source = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "RECOVERED, INTERRUPTED" in Page(source).text
    assert 'role="alert"' in source
    assert "not known: the recording ended before its summary was written" in Page(source).text


def test_an_unfinished_recording_is_shouted(tmp_path):
    killed = tmp_path / "killed.h5"
    make(tmp_path / "run.h5", Case(), killed)
    write_report(killed.with_suffix(".h5.partial"), tmp_path / "report.html")
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "UNFINISHED" in page.text
    assert "casa recover" in page.text


def test_a_whole_recording_is_not_shouted(calibrated):
    assert 'role="alert"' not in calibrated[1]


def test_without_a_summary_nothing_is_made_up(tmp_path):
    _, page = report_of(tmp_path, Case(status="interrupted", with_summary=False))
    assert page.text.count("not known: the recording ended before its summary was written") == 7


def test_no_sperm_is_a_finding_and_not_a_failure(tmp_path):
    _, page = report_of(tmp_path, Case(n_sperm=0))
    assert "No sperm seen" in page.text
    assert "Nothing was analysed" not in page.text
    assert "There is no path to draw" in page.text


def test_nothing_analysed_is_not_no_sperm(tmp_path):
    _, page = report_of(tmp_path, Case(n_sperm=0, failed=N_FRAMES))
    assert "Nothing was analysed" in page.text
    assert "No sperm seen" not in page.text


def test_a_recording_without_frames_has_a_report(tmp_path):
    _, page = report_of(tmp_path, Case(n_sperm=0, n_frames=0))
    assert "Nothing was analysed" in page.text


def test_a_low_frame_rate_marks_alh_and_bcf(tmp_path):
    _, page = report_of(tmp_path, Case(fps_hz=25.0))
    assert "Low frame rate" in page.text
    assert "BCF †" in page.text


def test_an_assumed_frame_rate_is_named(tmp_path):
    _, page = report_of(tmp_path, Case(timestamps="assumed"))
    assert "Frame rate assumed" in page.text
    assert "ASSUMED, not measured" in page.text


def test_a_simulated_field_is_never_taken_for_a_sample(tmp_path, calibrated):
    _, page = report_of(tmp_path, Case(timestamps="simulated", n_frames=60))
    assert "No sample was analysed" in page.text
    assert "No sample was analysed" not in calibrated[2].text


@pytest.mark.parametrize(("fields", "words"), [(1, "were not separated"), (2, "pictures of their own")])
def test_an_interlaced_source_says_what_became_of_its_fields(tmp_path, fields, words):
    _, page = report_of(tmp_path, Case(interlaced=True, fields=fields, n_frames=60))
    assert words in page.text


def test_hostile_names_stay_words(tmp_path):
    hostile = '<script>alert(1)</script>"><img src=http://example.org/x>.mp4'
    calibration = replace(CALIBRATION, name="<b onclick=evil()>", verified=False)
    source, page = report_of(tmp_path, Case(uri=hostile, calibration=calibration))
    assert "<script" not in source
    assert hostile in page.text
    assert all(tag not in {"script", "img"} and "onclick" not in a for tag, a in page.elements)


def run_command(*arguments: object):
    app = typer.Typer()
    app.command()(report_command)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_command_writes_beside_the_recording_and_never_over_another_file(tmp_path):
    path = make(tmp_path / "run.h5", Case(n_frames=70))
    assert run_command(path).exit_code == 0
    page = tmp_path / "run.html"
    page.write_text("mine")
    refused = run_command(path, "-o", page)
    assert isinstance(refused.exception, InputError)
    assert "--force" in str(refused.exception)
    assert page.read_text() == "mine"
    assert run_command(path, "-o", page, "--force").exit_code == 0
    assert page.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run.h5", "run.html"]


def test_the_recording_is_never_replaced_by_its_report(tmp_path):
    path = make(tmp_path / "run.h5", Case(n_frames=5))
    before = path.read_bytes()
    with pytest.raises(InputError, match="is the recording itself"):
        write_report(path, path, force=True)
    assert path.read_bytes() == before


def missing(path: Path) -> None:
    path.unlink(missing_ok=True)


def no_hdf5(path: Path) -> None:
    path.write_bytes(b"frame,cx_px\n0,1\n" * 100)


def cut_short(path: Path) -> None:
    data = make(path, Case(n_frames=20)).read_bytes()
    path.write_bytes(data[: len(data) // 2])


@pytest.mark.parametrize("spoil", [missing, no_hdf5, cut_short])
def test_what_is_no_recording_is_refused_in_one_line(tmp_path, spoil):
    path = tmp_path / "run.h5"
    spoil(path)
    with pytest.raises(CasaError) as caught:
        write_report(path, tmp_path / "report.html")
    assert "run.h5" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "report.html").exists()


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        write_report(make(tmp_path / "run.h5", Case(n_frames=5)), tmp_path / "no" / "report.html")
