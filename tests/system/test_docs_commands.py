"""Every command that the documentation shows: all are parsed by the real command line, those of tutorials are run.

A command of a tutorial or of README that is not run has a reason here, or the test fails: none can rot unseen. Other
pages show commands with placeholders, which are parsed.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from docs_commands import ROOT, Shown, commands_of, pages, parse
from recordings import leave_unfinished
from running import casa
from typer.testing import CliRunner

from casa.cli.main import app

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
#: Commands that run as processes of their own.
PROCESSES = ("live",)


def why_not(command: Shown) -> str | None:
    """Why a command is not run; None where it is."""
    reasons = README_NOT_RUN if command.page == "README.md" else NOT_RUN
    return next((why for begin, why in reasons.items() if command.line.startswith(begin)), None)


def test_the_commands_were_found_and_every_tutorial_is_run():
    assert len(COMMANDS) > 60
    assert {c.page for c in COMMANDS if c.page.startswith("docs/tutorials/")} == set(RUN)
    assert [c.line for c in COMMANDS if c.page == "README.md" and why_not(c) is None] == []


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
    for shown, reasons in ((readme, README_NOT_RUN), (tutorials, NOT_RUN)):
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


def made_short(page: str, arguments: list[str]) -> list[str]:
    """The command on less input: of an option that is given twice the last one holds."""
    frames = "60" if "own-data" in page else "30"  # clips are of a second and more
    return arguments + {"replay": ["--max-frames", "20"], "simulate": ["--frames", frames]}.get(arguments[0], [])


@pytest.mark.parametrize("page", RUN)
def test_a_page_works_from_its_first_command_to_its_last(page: str, tmp_path: Path, request, monkeypatch):
    prepare(page, tmp_path, request)
    monkeypatch.chdir(tmp_path)
    commands = [command for command in COMMANDS if command.page == page and why_not(command) is None]
    assert commands
    for command in commands:
        arguments = made_short(page, list(command.arguments))
        where = f"{page}:{command.number}: {command.line}"
        if arguments[0] in PROCESSES:
            done = casa(*arguments, cwd=tmp_path)
            assert done.returncode == 0, f"{where}\n{done.stderr}"
        else:
            result = CliRunner().invoke(app, arguments)
            assert result.exit_code == 0, f"{where}\n{result.output}\n{result.exception}"
