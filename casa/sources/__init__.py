"""Where frames come from: video files, folders of pictures, the simulator; and readers of published data sets.

``open_source`` is the door; what each source promises is in `casa.sources.protocol`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from casa.errors import InputError

if TYPE_CHECKING:
    from casa.config import SourceConfig
    from casa.sources.protocol import Source

__all__ = ["Source", "open_source"]


def open_source(uri: str, config: SourceConfig) -> Source:
    """Open a video file, a folder of pictures, or ``simulator[:PRESET[:SEED]]``.

    Raises
    ------
    InputError : it is missing, empty or none of these, or it needs a frame rate (``config.fps_hz``) and has none.
    """
    if uri == "simulator" or uri.startswith("simulator:"):
        from casa.sources.simulator import SimulatorSource

        return SimulatorSource(uri, config)
    path = Path(uri)
    if path.is_dir():
        from casa.sources.images import ImageFolderSource

        return ImageFolderSource(path, config)
    if not path.exists():
        raise InputError(f"{path}: no such file; give a video, a folder of pictures or simulator[:PRESET[:SEED]]")
    from casa.sources.video import VideoSource

    return VideoSource(path, config)


def __getattr__(name: str) -> object:
    # Source needs numpy through casa.types; whoever only opens sources from the command line does not.
    if name == "Source":
        from casa.sources.protocol import Source

        return Source
    raise AttributeError(name)
