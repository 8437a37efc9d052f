"""Where frames come from: files, folders of pictures, cameras, the simulator; and readers of published data sets.

``open_source`` is the door to recordings and ``open_live_source`` to cameras; what each source promises is in
`casa.sources.protocol`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from casa.errors import InputError

if TYPE_CHECKING:
    from casa.config import CameraConfig, SourceConfig
    from casa.sources.live import CameraSource
    from casa.sources.protocol import LiveSource, Source

__all__ = ["LiveSource", "Source", "open_live_source", "open_source"]


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


def open_live_source(uri: str, config: CameraConfig) -> CameraSource:
    """Open a camera: ``camera:0``, the address of a stream, ``micromanager:CFG``, ``simulator[:PRESET[:SEED]]``.

    Addresses are whatever FFmpeg opens (``rtsp://…``, ``http://…``, ``udp://…``, a device file or a named pipe).

    Raises
    ------
    InputError : there is no such device or address, or it cannot do what the configuration asks for.
    CasaError : the device is there, but does not work.
    """
    from casa.sources.live import CameraSource

    kind, _, rest = uri.partition(":")
    if kind == "simulator":
        from casa.sources.microscope import Microscope

        return CameraSource(Microscope(uri, config), config)
    if kind == "micromanager" and rest:
        from casa.sources.micromanager import MicroManager

        return CameraSource(MicroManager(uri, config), config)
    if kind == "camera":
        from casa.sources.camera import OpenCvCamera

        return CameraSource(OpenCvCamera(uri, config), config)
    if "://" in uri or Path(uri).exists():
        from casa.sources.stream import StreamCamera

        return CameraSource(StreamCamera(uri, config), config)
    raise InputError(
        f"{uri}: no such camera; give camera:0, the address of a stream, micromanager:CFG.cfg, micromanager:demo "
        "or simulator[:PRESET]"
    )


def __getattr__(name: str) -> object:
    # These need numpy through casa.types; whoever only opens sources from the command line does not.
    if name in ("Source", "LiveSource"):
        from casa.sources import protocol

        return getattr(protocol, name)
    raise AttributeError(name)
