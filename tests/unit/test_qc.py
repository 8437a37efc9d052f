"""Claims about control series: which rule tells what and how soon, what a change does, and what is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from recordings import write_recording
from running import casa
from samples import record_field
from typer.testing import CliRunner

from casa.audit import AuditLog, read_audit
from casa.calibrate.control import ControlDay, append_log
from casa.cli.main import app
from casa.errors import CasaError, InputError
from casa.qc.charts import levey_jennings
from casa.qc.evaluate import Chart, evaluate
from casa.qc.page import series_page, state_of
from casa.qc.rules import ewma, westgard
from casa.qc.series import Addition, Run, begin_anew, read_series


def runs(values, setup=None, figure="pr_percent", first=1) -> list[Run]:
    return [
        Run(first + i, f"2026-01-{1 + i % 28:02d}T08:00:00+00:00", "x.h5", setup or {"network": "a"}, {figure: value})
        for i, value in enumerate(values)
    ]


def chart(values, n_baseline=20) -> Chart:
    return evaluate(runs(values), n_baseline=n_baseline)[0]


def add_run(path: Path, recording: Path, control: str | None = None) -> Run:
    """Add one recording, as `casa qc add` does."""
    addition = Addition.to(path)
    addition.read(recording, control)
    addition.write()
    return addition.runs[-1]


#: Twenty values of mean 50 and sd 2.
BASE = (50 + 2 * np.resize([1, -1], 20) * np.sqrt(19 / 20)).tolist()


@pytest.mark.parametrize(
    ("deviations", "rules"),
    [
        ([0.5, -1.9, 1.2], ()),
        ([0.3, 2.4], ("1-2s",)),
        ([0.3, -3.2], ("1-3s",)),
        ([2.1, 2.2], ("2-2s",)),
        ([2.1, -2.2], ("1-2s", "R-4s")),
        ([2.1, 0.0, -2.2], ("1-2s",)),
        ([1.1, 1.2, 1.5, 1.1], ("4-1s",)),
        ([1.1, 1.2, -1.5, 1.1], ()),
        ([-1.1, -1.2, -1.5, -2.6], ("1-2s", "4-1s")),
        ([0.1] * 10, ("10-x",)),
        ([0.1] * 9, ()),
        ([-0.1] * 4 + [0.1] * 6, ()),
    ],
)
def test_each_rule_tells_what_it_is_for(deviations, rules):
    assert westgard(deviations)[-1] == rules


def test_the_moving_average_is_the_published_one():
    """Lucas & Saccucci 1990: z = w d + (1 - w) z, variance w / (2 - w) (1 - (1 - w)^2t)."""
    found = ewma([1.0, 1.0, 1.0], n_baseline=10**9)
    assert [z for z, _ in found] == pytest.approx([0.2, 0.36, 0.488])
    assert found[0][1] == pytest.approx(3 * 0.2)
    assert ewma([0.0] * 200, 10**9)[-1][1] == pytest.approx(3 * np.sqrt(0.2 / 1.8))
    assert ewma([0.0] * 200, 20)[-1][1] == pytest.approx(3 * np.sqrt(0.2 / 1.8 + 1 / 20))


def test_limits_come_from_the_baseline_and_judge_what_follows():
    found = chart([*BASE, 51.0, 54.5, 57.0])
    segment = found.segments[0]
    assert (segment.mean, segment.sd) == (pytest.approx(50), pytest.approx(2))
    assert [p.state for p in found.points[-4:]] == ["baseline", "in", "warning", "out"]
    assert found.points[-1].rules[0] == "1-3s"
    assert found.alarm
    assert "OUT OF CONTROL by 1-3s" in state_of(found)
    assert not chart([*BASE, 51.0]).alarm


def test_before_the_baseline_is_whole_nothing_is_judged_and_that_is_said():
    found = chart([*BASE[:19], 90.0])
    assert found.points[-1].state == "baseline"
    young = chart([50.0, 51.0, 90.0])
    assert not young.alarm
    assert state_of(young) == "Progressive motility 90 %: no limits yet, run 3 of the baseline"


def test_false_alarms_and_how_soon_shifts_are_told():
    """The figures of docs/quality.md, on a small sample: false alarms are rare, a shift of 2 sd is told within days."""
    rng = np.random.default_rng(4)
    alarms, told = 0, {1.0: [], 2.0: []}
    for _ in range(80):
        values = rng.normal(50, 2, 60)
        alarms += sum(p.state == "out" for p in chart(values.tolist()).points)
        for shift in told:
            moved = values.copy()
            moved[20:] += 2 * shift
            states = [p.state for p in chart(moved.tolist()).points[20:]]
            told[shift].append(states.index("out") + 1 if "out" in states else 41)
    assert alarms / (80 * 40) < 0.08
    assert np.median(told[2.0]) <= 3
    assert np.median(told[1.0]) <= 9


def test_a_slow_drift_is_told_by_the_moving_average_before_any_run_is_beyond_3_sd():
    rng = np.random.default_rng(3)
    values = [*BASE, *(50 + 0.12 * np.arange(40) + rng.normal(0, 0.6, 40))]
    points = chart(values).points[20:]
    first = next(i for i, p in enumerate(points) if p.state == "out")
    assert not any("1-3s" in p.rules for p in points[:first])
    assert {"drift", "10-x", "4-1s"} & set(points[first].rules)
    assert any("drift" in p.rules for p in points)


def test_the_same_video_again_must_give_the_same_to_the_last_digit():
    found = chart([61.25] * 21)
    assert [p.state for p in found.points[-1:]] == ["in"]
    assert chart([*[61.25] * 20, 61.26]).points[-1].rules[0] == "1-3s"


def test_another_network_or_setting_breaks_the_series_and_says_what_it_did():
    setup = {"network name": "a", "network sha256": "0" * 64, "detect.confidence": "0.1"}
    old = runs(BASE, setup)
    new = runs((np.array(BASE[:6]) + 4).tolist(), setup | {"network sha256": "1" * 64}, first=21)
    found = evaluate([*old, *new])[0]
    assert len(found.segments) == 2
    assert found.segments[1].changed == ("network sha256 00000000 → 11111111",)
    assert found.segments[1].mean is None
    assert not found.alarm
    step, low, high = found.segments[1].step or (0, 0, 0)
    assert step == pytest.approx(4, abs=0.5)
    assert low < 4 < high
    page = series_page("x", [found])
    assert "network sha256 00000000 → 11111111. The mean moved by +4" in page


def test_a_figure_that_is_missing_in_a_run_is_left_out_of_its_chart():
    series = runs(BASE, figure="vcl_um_s")
    series[3] = Run(4, "2026-01-04", "x.h5", series[3].setup, {"vcl_um_s": None})
    found = evaluate(series, ["vcl_um_s"], 19)[0]
    assert len(found.points) == 19
    with pytest.raises(InputError, match=r"--figure pr_percent: is in no run of this series; there are vcl_um_s"):
        evaluate(series, ["pr_percent"])
    with pytest.raises(InputError, match=r"--baseline 4: expected at least 5"):
        evaluate(series, n_baseline=4)


def test_a_chart_can_be_read_without_colour():
    svg = levey_jennings(chart([*BASE, 54.5, 57.0, 43.0]))
    assert svg.count('r="3.6" fill="#ffffff"') == 20  # rings: the baseline
    assert svg.count("<polygon") == 1
    assert svg.count('width="10" height="10"') == 2
    assert "1-3s" in svg
    assert "R-4s" not in svg.split("1-3s")[0]


def test_bead_counts_are_judged_by_their_certificate(tmp_path):
    log = tmp_path / "beads.csv"
    for day, count in enumerate((35.2, 34.1, 36.0, 42.5), 1):
        append_log(log, ControlDay(f"2026-03-0{day}", count, count - 3, count + 3, 35.0, 2.0, 400, "scope"))
    append_log(log, ControlDay("2026-03-05", 41.0, 38, 44, 40.0, 2.0, 400, "scope"))
    found = evaluate(read_series(log))[0]
    assert [p.state for p in found.points] == ["in", "in", "in", "out", "in"]
    assert found.segments[1].changed == ("certified 35 → 40",)
    with pytest.raises(InputError, match=r"limits are the certificate's"):
        begin_anew(log, "new lot")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> Path:
    """Eight recordings of a control; the last but one counts three times as much, the last has another network."""
    folder = tmp_path_factory.mktemp("control")
    for n, heads in enumerate((20.0, 21.0, 22.0, 20.0, 21.0, 22.0, 60.0)):
        record_field(folder / f"{n}.h5", (60, 40, 20, 40), heads)
    record_field(folder / "7.h5", (60, 40, 20, 40), model={"name": "m", "sha256": "2" * 64})
    return folder


def test_recordings_are_added_once_and_judged(recorded, tmp_path):
    series = tmp_path / "straws.qc"
    for n in range(6):
        add_run(series, recorded / f"{n}.h5", "frozen straws" if n == 0 else None)
    found = read_series(series)
    assert found[5].setup["control"] == "frozen straws"
    assert 10 < (found[0].figures["vcl_um_s"] or 0) < 60
    assert found[0].setup["calibration.um_per_px_x"] == "0.5"
    assert found[0].utc[:10] == "2026-01-01"  # when it was recorded, not when it was added
    with pytest.raises(InputError, match=r"3\.h5: is in this series already"):
        add_run(series, recorded / "3.h5")
    options = ("--baseline", "6", "--figure", "heads_per_frame", "--figure", "vcl_um_s", "--page", "p.html", "--json")
    done = casa("qc", "add", series, recorded / "6.h5", *options, cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    said = json.loads(done.stdout)
    assert said["alarm"] is True
    assert said["figures"]["heads_per_frame"]["state"] == "out"
    assert said["figures"]["vcl_um_s"]["state"] != "out"
    assert "OUT OF CONTROL" in (tmp_path / "p.html").read_text(encoding="utf-8")
    add_run(series, recorded / "7.h5")
    assert any("network sha256" in text for text in evaluate(read_series(series))[0].segments[-1].changed)
    begin_anew(series, "new lamp")
    again = casa("qc", "check", series, cwd=tmp_path)
    assert again.returncode == 0, again.stderr


@pytest.mark.parametrize(
    ("series", "options", "told"),
    [
        ("straws.csv", (), r"straws\.csv: a series of control runs is a file that ends in \.qc: straws\.qc"),
        ("straws.h5", (), r"straws\.h5: a series of control runs is a file that ends in \.qc"),
        ("s.qc", ("--baseline", "4"), r"--baseline 4: expected at least 5"),
        ("s.qc", ("--figure", "vcl"), r"--figure vcl: is none; there are concentration_m_per_ml, pr_percent"),
        ("s.qc", ("--figure", "jitter_px"), r"--figure jitter_px: is in no run of this series"),
        ("s.qc", ("--page", "none/p.html"), r"--page .*none/p\.html: the folder .*none does not exist"),
        ("s.qc", ("--page", "0.h5"), r"--page .*0\.h5: expected the name of an HTML file, as 0\.html"),
        ("s.qc", ("--audit-log", "none/log"), r"none/log: the audit log cannot be written"),
        ("s.qc", ("1.h5", "0.h5"), r"0\.h5: is in this series already"),
    ],
)
def test_what_cannot_be_done_whole_changes_no_series(recorded, tmp_path, monkeypatch, series, options, told):
    for n in (0, 1):
        (tmp_path / f"{n}.h5").write_bytes((recorded / f"{n}.h5").read_bytes())
    monkeypatch.chdir(tmp_path)
    failed = CliRunner().invoke(app, ["qc", "add", series, "0.h5", *options])
    assert failed.exit_code != 0
    assert re.search(told, str(failed.exception))
    assert "\n" not in str(failed.exception)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.h5", "1.h5"]


def test_adding_is_logged_and_checking_only_reads(recorded, tmp_path, monkeypatch):
    monkeypatch.setenv("CASA_AUDIT_LOG", str(tmp_path / "lab.audit"))
    series, options = str(tmp_path / "s.qc"), ["--baseline", "6", "--figure", "heads_per_frame"]
    files = [str(recorded / f"{n}.h5") for n in range(7)]
    assert CliRunner().invoke(app, ["qc", "add", series, *files, *options]).exit_code == 1
    (line,) = read_audit(tmp_path / "lab.audit").lines
    assert (line.event, line.subject) == ("qc alarm", series)
    before = (tmp_path / "s.qc").read_bytes(), (tmp_path / "lab.audit").read_bytes()
    assert CliRunner().invoke(app, ["qc", "check", series, *options]).exit_code == 1
    assert ((tmp_path / "s.qc").read_bytes(), (tmp_path / "lab.audit").read_bytes()) == before


def test_an_edited_series_is_told_with_its_line(tmp_path):
    series = tmp_path / "s.qc"
    for value in (1.0, 2.0):
        AuditLog(series).append(
            "control", "c", recording="r", recording_id=str(value), setup={}, figures={"vcl_um_s": value}
        )
    series.write_bytes(series.read_bytes().replace(b'"vcl_um_s":2.0', b'"vcl_um_s":1.0'))
    with pytest.raises(CasaError, match=r"s\.qc: line 3 is not what was written: it was changed"):
        read_series(series)
    other = tmp_path / "audit"
    AuditLog(other).append("result", "x")
    with pytest.raises(InputError, match=r"holds no run of a control"):
        read_series(other)
    with pytest.raises(InputError, match=r"holds no run of a control and is no series"):
        add_run(tmp_path / "audit", tmp_path / "none.h5")
    (tmp_path / "run.h5").write_bytes(b"\x89HDF\r\n")
    with pytest.raises(InputError, match=r"run\.h5: is no series of control runs \(line 1 is not the head"):
        read_series(tmp_path / "run.h5")
    AuditLog(other).append("control", "x", figures=3)
    with pytest.raises(InputError, match=r"line 3 is an event `control` that casa qc did not write"):
        read_series(other)
    with pytest.raises(InputError, match=r"none\.csv: no such series; `casa qc add"):
        read_series(tmp_path / "none.csv")


def test_a_recording_that_broke_off_or_is_empty_is_no_run(tmp_path):
    record_field(tmp_path / "empty.h5", (0, 0, 0, 0))
    with pytest.raises(InputError, match=r"empty\.h5: holds no track"):
        add_run(tmp_path / "s.qc", tmp_path / "empty.h5")
    assert not (tmp_path / "s.qc").exists()
    with pytest.raises(InputError, match=r"no such|cannot be|does not exist|not there"):
        add_run(tmp_path / "s.qc", tmp_path / "none.h5")
    assert write_recording(tmp_path / "ok.h5", 20).is_file()
    assert add_run(tmp_path / "s.qc", tmp_path / "ok.h5").figures["pr_percent"] == 75.0
