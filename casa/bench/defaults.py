"""Where benches find their input when they are given none: the shared recordings beside a checkout."""

from __future__ import annotations

import os
from pathlib import Path

from casa.errors import InputError

#: The clip and its truth, and the frames of it that the shipped weights were not trained on.
CLIP = "visem13_clip/clip.mp4"
CLIP_TRUTH = "visem13_clip/tracks.csv.gz"
CLIP_TEST_FRAMES = (140, 200)
CHALLENGE = "tracker_challenge"


def shared_data(name: str) -> Path:
    """A file or folder of the shared recordings: ``../shared/data`` beside the checkout, or ``$CASA_SHARED_DATA``.

    Raises
    ------
    InputError : it is not there; the message says what to give instead.
    """
    beside = Path(__file__).resolve().parents[2].parent / "shared" / "data"
    path = Path(os.environ.get("CASA_SHARED_DATA", beside)) / name
    if not path.exists():
        raise InputError(
            f"nothing given to measure on, and {path} is not there: give it as an argument, or set CASA_SHARED_DATA to "
            "the folder of shared recordings"
        )
    return path
