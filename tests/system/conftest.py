"""A small recording that the system tests share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from running import encode

from casa.simulate.scene import simulate


@pytest.fixture(scope="session")
def simulated_video(tmp_path_factory) -> Path:
    """Two seconds of the default simulated field, as a video file."""
    images = []
    for frame in simulate("default", seed=5).frames():
        images.append(np.asarray(frame.image) if frame.image.ndim == 3 else np.repeat(frame.image[..., None], 3, 2))
        if len(images) == 100:
            break
    return encode(tmp_path_factory.mktemp("video") / "field.mp4", images)
