"""``casa view``: look at a recording or a running session."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from casa.cli.options import Keys

if TYPE_CHECKING:
    from casa.viewer.feed import Feed
    from casa.viewer.recording_feed import VideoChoice
    from casa.viewer.session import Session


def view(
    what: Annotated[
        str | None,
        typer.Argument(metavar="[ENDPOINT|RUN.h5]", help="A recording, or the address of a running session."),
    ] = None,
    video: Annotated[
        str | None, typer.Option(help="The video that was analysed, where it is not found by itself.")
    ] = None,
    user: Annotated[str | None, typer.Option(help="Your name, written into marks and corrections.")] = None,
    snapshots: Annotated[
        Path | None, typer.Option(help="Folder for snapshots; by default beside the recording.")
    ] = None,
    keys: Keys = None,
) -> None:
    """Look at a recording or a running session; press ? for the keys."""
    show_viewer(what, video=video, user=user, snapshots=snapshots, keys=keys)


def show_viewer(
    what: str | None,
    *,
    video: str | None = None,
    user: str | None = None,
    snapshots: Path | None = None,
    keys: Path | None = None,
) -> None:
    """Show a recording or a running session in a window until it is closed; without either, the usual session."""
    if what is not None:
        check_argument(what)
    from casa.viewer.app import show
    from casa.viewer.corrections import user_name

    who = (user or user_name()).strip()

    def open_named(name: str) -> Feed:
        return open_feed(name, video=video, who=who, keys=keys)

    show("" if what is None else what, open_named, snapshots=snapshots, who=who)


def view_in_process(recording: Path, source: str) -> None:
    """Show a finished recording from a program that has loaded cv2, whose Qt must not meet the viewer's.

    Raises
    ------
    CasaError : the viewer could not be shown; its own message has been printed.
    """
    import subprocess

    from casa.errors import CasaError

    command = [sys.executable, "-m", "casa", "view", str(recording)]
    if Path(source).exists():
        command += ["--video", source]
    try:
        code = subprocess.run(command, check=False).returncode
    except KeyboardInterrupt:
        return
    if code != 0:
        raise CasaError(f"{recording}: is complete, but the viewer could not show it")


def check_argument(what: str) -> None:
    """Raise InputError for what is neither a recording nor an address."""
    from casa.bus.address import Endpoint
    from casa.errors import InputError

    if is_recording(what):
        return
    try:
        Endpoint.parse(what)
    except InputError as error:
        raise InputError(f"{what}: no such file, and no address either ({error})") from error


def is_recording(what: str) -> bool:
    """Whether this names a file rather than a session."""
    return Path(what).exists() or what.endswith((".h5", ".partial"))


def open_feed(name: str, *, video: str | None, who: str, keys: Path | None) -> Feed:
    """The feed of a recording or of a session; "" is the usual session."""
    if name and is_recording(name):
        from casa.viewer.recording_feed import RecordingFeed

        return RecordingFeed(Path(name), lambda session: find_video(session, video), who)
    from casa.bus.keys import load_client_keys
    from casa.viewer.bus_feed import BusFeed

    return BusFeed(name or None, load_client_keys(keys) if keys else None)


def find_video(session: Session, told: str | None) -> VideoChoice:
    """Where a recording's pictures are: as told, kept by the session, where the analysis found them, or beside it."""
    from casa.viewer.recording_feed import VideoChoice, kept_pictures, source_pictures

    base = (sys.executable, "-m", "casa.cli.pictures")
    if told is not None:
        return source_pictures(base, told, session)
    if session.is_live:
        if session.video_files:
            return kept_pictures(base, session)
        return VideoChoice(note="This live session kept no video (casa live --video keeps one).")
    uri = session.source.uri
    if uri.partition(":")[0] == "simulator":
        return source_pictures(base, uri, session)
    for path in (Path(uri), session.path.parent / uri, session.path.parent / Path(uri).name):
        if path.exists():
            return source_pictures(base, str(path), session)
    return VideoChoice(note="The video of this recording was not found: give it with --video.")
