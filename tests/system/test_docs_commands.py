"""Every command that the documentation shows: all are parsed by the real command line, and what is cheap is run.

A command of a tutorial, of README or of a reference page that is not run has a reason here, or the test fails: none can
rot unseen. Placeholders of reference pages (RUN.h5, TRACKS.csv) are files of these names. Pages of which no command is
cheap are parsed alone, and say why.
"""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest
from docs_commands import ROOT, Shown, commands_of, pages, parse
from recordings import leave_unfinished, write_recording
from running import casa
from samples import record_field, sample_of
from typer.testing import CliRunner

from casa.calibrate.control import ControlDay, append_log
from casa.cli.main import app
from casa.simulate.layout import write_visem_layout
from casa.simulate.scene import simulate

COMMANDS = [command for page in pages() for command in commands_of(page)]
#: Pages whose commands are run, in this order and in one folder a page.
RUN = [f"docs/tutorials/{name}.md" for name in ("replay", "live", "calibrate", "own-data")]
_WINDOW = "opens a window; tests/gui does that"
_CAMERA = "needs a camera"
_HOURS = "takes hours"
#: What tutorials show and is not run, by how the command begins, and why.
NOT_RUN = {
    "casa view": _WINDOW,
    "casa calibrate wizard": _CAMERA,
    "casa calibrate --source simulator": "takes minutes; tests/system/test_calibrate.py runs it",
    "casa calibrate check": "needs the profile of the whole setup; tests/system/test_calibrate.py runs it",
    "casa live --source camera:0": _CAMERA,
    "casa live --source micromanager:scope.cfg": "needs a microscope; tests/contract runs Micro-Manager's own",
    "casa live --source simulator -o with-viewer.h5": _WINDOW,
    "casa live --source simulator -o long.h5": "as the session before; tests/system/test_live.py runs segments",
    "casa train": _HOURS,
    "casa replay trial/default_4/default_4.mp4 -o mine.h5": "needs a training",
    "casa grade annotate": _WINDOW,
    "casa grade agreement": "needs experts' votes; tests/unit/test_grade_data.py has them",
}
#: The same of README, which shows the tutorials' commands again.
README_NOT_RUN = {
    "casa demo": "tests/system/test_packaging.py runs it",
    "casa replay VIDEO": "docs/tutorials/replay.md runs it",
    "casa view": _WINDOW,
    "casa calibrate wizard": _CAMERA,
    "casa calibrate --source simulator": "takes minutes; tests/system/test_calibrate.py runs it",
    "casa calibrate scale": "docs/tutorials/calibrate.md runs it",
    "casa live --source simulator": "docs/tutorials/live.md runs it, without the window",
    "casa live --source camera:0": _CAMERA,
    "casa live --source micromanager:scope.cfg": "needs a microscope; tests/contract runs Micro-Manager's own",
    "casa sample new": "docs/tutorials/replay.md runs it",
    "casa sample add": "docs/tutorials/replay.md runs it",
    "casa sample report": "tests/system/test_pdf.py prints one",
    "casa batch": "tests/system/test_batch.py runs it",
    "casa compare": "tests/system/test_batch.py runs it",
    "casa qc add": "tests/unit/test_qc.py runs it",
}
#: Reference pages whose commands are run too, on small made-up and simulated input.
REFERENCE = [
    f"docs/{name}.md" for name in ("samples", "quality", "export", "kinematics", "clips", "grade-data", "morphology")
]
REFERENCE_NOT_RUN = {
    "casa qc run": "tests/system/test_qc_run.py runs it",
    "casa audit verify": "no sum is known beforehand; tests/unit/test_audit_log.py verifies",
    "casa clips VIDEO -o": "docs/tutorials/own-data.md runs it",
    "casa clips RUN.h5": "tests/system/test_clips_command.py runs it",
    "casa grade annotate": _WINDOW,
    "casa replay VIDEO --morphology": "tests/system/test_morphology.py runs it",
    "casa live --morphology": "tests/system/test_morphology.py runs it",
    "casa morphology": "takes seconds; tests/unit/test_morphology_cli.py runs it",
}
#: Pages of which no command is run here, and why.
PARSED = {
    "docs/batch.md": "tests/system/test_batch.py and tests/system/test_batch_ray.py run them",
    "docs/calibration.md": "docs/tutorials/calibrate.md and tests/system/test_calibrate.py run them",
    "docs/detector.md": _HOURS,
    "docs/grade.md": "tests/system/test_grading.py and tests/unit/test_grade_net_model.py run them",
    "docs/grade-training.md": _HOURS,
    "docs/morphology-training.md": _HOURS,
    "docs/viewer.md": _WINDOW,
}
#: Commands that run as processes of their own.
PROCESSES = ("live",)


def why_not(command: Shown) -> str | None:
    """Why a command is not run; None where it is."""
    reasons = {"README.md": README_NOT_RUN, **dict.fromkeys(REFERENCE, REFERENCE_NOT_RUN)}.get(command.page, NOT_RUN)
    return next((why for begin, why in reasons.items() if command.line.startswith(begin)), None)


def test_the_commands_were_found_and_every_tutorial_is_run():
    assert len(COMMANDS) > 60
    assert {c.page for c in COMMANDS if c.page.startswith("docs/tutorials/")} == set(RUN)
    assert [c.line for c in COMMANDS if c.page == "README.md" and why_not(c) is None] == []
    assert {c.page for c in COMMANDS} == {"README.md", *RUN, *REFERENCE, *PARSED}


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: f"{c.page}:{c.number}")
def test_the_command_line_takes_it(command: Shown):
    arguments = tuple("2" if word == "N" else word for word in command.arguments)
    parse(arguments)


def test_a_wrong_option_would_be_noticed():
    with pytest.raises(Exception, match="No such option"):
        parse(("replay", "video.mp4", "--no-such-option"))
    with pytest.raises(Exception, match="Missing"):
        parse(("kinematics", "tracks.csv"))


def test_reasons_are_of_commands_that_are_shown():
    readme = [c.line for c in COMMANDS if c.page == "README.md"]
    tutorials = [c.line for c in COMMANDS if c.page in RUN]
    reference = [c.line for c in COMMANDS if c.page in REFERENCE]
    parsed = [c.page for c in COMMANDS]
    tables = ((readme, README_NOT_RUN), (tutorials, NOT_RUN), (reference, REFERENCE_NOT_RUN), (parsed, PARSED))
    for shown, reasons in tables:
        assert [begin for begin in reasons if not any(line.startswith(begin) for line in shown)] == []
        named = [word.strip(",;") for why in reasons.values() for word in why.split() if "/" in word]
        assert [name for name in named if not (ROOT / name).exists()] == []


def prepare(page: str, folder: Path, request: pytest.FixtureRequest) -> None:
    """What a page supposes that its reader has."""
    if page == "docs/tutorials/calibrate.md":
        import cv2

        from casa.simulate.micrometer import MicrometerConfig, micrometer_image

        cv2.imwrite(str(folder / "grid.png"), micrometer_image(MicrometerConfig(), 0))
        os.link(request.getfixturevalue("simulated_video"), folder / "trial.mp4")
    if page == "docs/tutorials/live.md":
        leave_unfinished(folder / "broken.h5")
    if page == "docs/samples.md":
        for number in range(1, 7):
            record_field(folder / f"field{number}.h5", (60, 40, 20, 80))
    if page == "docs/quality.md":
        record_field(folder / "monday.h5", (60, 40, 20, 80))
        append_log(folder / "beads.csv", ControlDay("2026-03-01", 35.2, 33, 37, 35.0, 2.0, 400, "scope"))
        rows = [f"{n},pr_percent,{20 + n},{21 + n + n % 3}" for n in range(40)]
        (folder / "pairs.csv").write_text("\n".join(["sample,figure,technician,casa", *rows]) + "\n")
    if page == "docs/export.md":
        write_recording(folder / "RUN.h5", 20)
        sample_of(folder / "SAMPLE", ((60, 40, 20, 80),), ((60, 40, 20, 80),))
    if page in ("docs/kinematics.md", "docs/clips.md"):
        truth = request.getfixturevalue("simulated_layout")
        (folder / "TRACKS.csv").write_bytes(gzip.decompress((truth / "truth.csv.gz").read_bytes()))
        names = {
            "VIDEO": f"{truth.name}.mp4",
            "TRACKS.csv.gz": "truth.csv.gz",
            "TRUE_KINEMATICS.csv": "kinematics_truth.csv",
        }
        for name, of in names.items():
            os.link(truth / of, folder / name)
    if page == "docs/grade-data.md":
        run_here(["grade", "panel", "-o", "FOLDER", *SHORT["grade panel"]], page)
    if page == "docs/morphology.md":
        run_here(["data", "render", "-o", "SET", "--preset", "scian", *SHORT["data render"]], page)


@pytest.fixture(scope="module")
def simulated_layout(tmp_path_factory) -> Path:
    """A simulated recording with its truth, as ``casa simulate`` writes it."""
    return write_visem_layout(simulate("default", 4, 60), tmp_path_factory.mktemp("layout"))


#: What makes commands of reference pages short, or lets them write where an earlier one has.
SHORT = {
    "kinematics": ["--force"],
    "grade panel": ["--clips", "4", "--workers", "1", "--force"],
    "data render": ["--count", "12", "--force"],
}


def made_short(page: str, arguments: list[str]) -> list[str]:
    """The command on less input: of an option that is given twice the last one holds."""
    if page in REFERENCE:
        words = [
            word for word in map(os.path.expandvars, arguments) if word != "--pdf"
        ]  # tests/system/test_pdf.py prints
        return words + next((more for begin, more in SHORT.items() if " ".join(words).startswith(begin)), [])
    frames = "60" if "own-data" in page else "30"  # clips are of a second and more
    return arguments + {"replay": ["--max-frames", "20"], "simulate": ["--frames", frames]}.get(arguments[0], [])


def run_here(arguments: list[str], where: str) -> None:
    """Run a command in this process and folder."""
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, f"{where}\n{result.output}\n{result.exception}"


@pytest.mark.parametrize("page", [*RUN, *REFERENCE])
def test_a_page_works_from_its_first_command_to_its_last(page: str, tmp_path: Path, request, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CASA_AUDIT_LOG", str(tmp_path / "lab.audit"))
    prepare(page, tmp_path, request)
    commands = [command for command in COMMANDS if command.page == page and why_not(command) is None]
    assert commands
    for command in commands:
        arguments = made_short(page, list(command.arguments))
        where = f"{page}:{command.number}: {command.line}"
        if arguments[0] in PROCESSES:
            done = casa(*arguments, cwd=tmp_path)
            assert done.returncode == 0, f"{where}\n{done.stderr}"
        else:
            run_here(arguments, where)
