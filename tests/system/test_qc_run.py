"""A control video is replayed: the same figures to the last digit, in the series and in the audit log."""

from __future__ import annotations

from pathlib import Path

from casa.audit import read_audit
from casa.cli.qc import run
from casa.qc.series import changes, read_series


def test_a_control_video_gives_the_same_again(simulated_video: Path, tmp_path: Path):
    series, log = tmp_path / "software.qc", tmp_path / "lab.audit"
    config = tmp_path / "short.yaml"
    config.write_text("source: {max_frames: 60}\n")
    for _ in range(2):
        run(series, str(simulated_video), calibration="simulator", config=str(config), audit_log=log)
    first, second = read_series(series)
    assert first.figures == second.figures
    assert (first.figures["concentration_m_per_ml"] or 0) > 5
    assert changes(first, second) == []
    assert len(first.setup["control video"]) == 64
    assert [line.event for line in read_audit(log).lines] == ["qc", "qc"]
