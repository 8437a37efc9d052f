"""Cameras, stages and focus drives through Micro-Manager's core: ``micromanager:CFG.cfg`` or ``micromanager:demo``.

The core takes pictures into its circular buffer in a thread of its own and numbers them, so that what falls out of the
buffer is known. Each source has a core of its own.
"""

from __future__ import annotations

import importlib.util
import time
from pathlib import Path
from typing import Any

import numpy as np

from casa.config import CameraConfig
from casa.errors import CasaError, InputError
from casa.sources.device import Format, Grabbed, Unplugged

_POLL_S = 0.0005
_MOVE_MS = 20_000


class MicroManager:
    """A Device over ``pymmcore_plus.CMMCorePlus``; ``core`` is the core itself.

    The demonstration has Micro-Manager's DemoCamera with its XY and Z stages.
    """

    def __init__(self, uri: str, config: CameraConfig) -> None:
        self.uri, self._config = uri, config
        self._file = uri.partition(":")[2]
        if self._file != "demo" and not Path(self._file).is_file():
            raise InputError(f"{uri}: no such file; give a configuration of Micro-Manager (.cfg), or micromanager:demo")
        if config.size is not None:
            raise InputError(f"{uri}: Micro-Manager takes a part of the sensor by camera.roi; leave out camera.size")
        self.core: Any = _make_core(uri, config.micromanager.adapters)
        self.stage: CoreStage | None = None
        self.focus: CoreFocus | None = None

    def open(self) -> Format:
        """Load the devices, and configure the camera."""
        core, wanted = self.core, self._config.micromanager
        try:
            self._load()
            if wanted.camera:
                core.setCameraDevice(wanted.camera)
            if not core.getCameraDevice():
                raise InputError(f"{self.uri}: its configuration names no camera; set camera.micromanager.camera")
            for label, settings in wanted.properties.items():
                for name, value in settings.items():
                    self._set(label, name, value)
            self._configure()
            self._find_stages()
            interval_ms = 1000 / self._config.fps_hz if self._config.fps_hz else core.getExposure()
            return self._format(max(interval_ms, core.getExposure(), 0.1))
        except RuntimeError as error:
            raise CasaError(f"{self.uri}: {_one_line(error)}") from error

    def start(self) -> None:
        """Begin a sequence, which overwrites what nobody takes."""
        interval_ms = 1000 / self._config.fps_hz if self._config.fps_hz else 0.0
        try:
            self.core.setCircularBufferMemoryFootprint(self._config.micromanager.buffer_mb)
            self.core.startContinuousSequenceAcquisition(interval_ms)
        except RuntimeError as error:
            raise Unplugged(_one_line(error)) from error
        self._expected = 0

    def grab(self, timeout_s: float) -> Grabbed | None:
        """The oldest picture in the core's buffer."""
        core = self.core
        give_up = time.monotonic() + timeout_s
        try:
            while not core.getRemainingImageCount():
                if not core.getCameraDevice():
                    raise Unplugged("the camera is no longer loaded")
                if time.monotonic() > give_up:
                    return None
                time.sleep(_POLL_S)
            host_ns = time.monotonic_ns()
            image, metadata = core.popNextImageAndMD()
        except (IndexError, SystemError):  # the buffer was emptied between the two calls
            return None
        except RuntimeError as error:
            raise Unplugged(_one_line(error)) from error
        number = int(metadata["ImageNumber"]) if "ImageNumber" in metadata else None
        overflow = number is not None and number > self._expected
        self._expected = self._expected + 1 if number is None else number + 1
        device_ns = round(float(metadata["ElapsedTime-ms"]) * 1e6) if "ElapsedTime-ms" in metadata else None
        return Grabbed(_rgb(np.asarray(image)), host_ns, number, device_ns, overflow=overflow)

    @property
    def exposure_ms(self) -> float:
        """The exposure, ms."""
        return float(self.core.getExposure())

    def set_exposure_ms(self, exposure_ms: float) -> float:
        """Set the camera's exposure."""
        try:
            self.core.setExposure(exposure_ms)
            return float(self.core.getExposure())
        except RuntimeError as error:
            raise InputError(f"{self.uri}: the exposure cannot be set ({_one_line(error)})") from error

    def close(self) -> None:
        """Stop the sequence, and unload all devices."""
        try:
            if self.core.getCameraDevice() and self.core.isSequenceRunning():
                self.core.stopSequenceAcquisition()
            self.core.unloadAllDevices()
        except RuntimeError:
            pass  # a device that is gone cannot be stopped

    def _load(self) -> None:
        core = self.core
        core.unloadAllDevices()
        if self._file != "demo":
            core.loadSystemConfiguration(str(Path(self._file).resolve()))
            return
        for label, name in (("Camera", "DCam"), ("XY", "DXYStage"), ("Z", "DStage")):
            core.loadDevice(label, "DemoCamera", name)
        core.initializeAllDevices()
        core.setCameraDevice("Camera")
        core.setXYStageDevice("XY")
        core.setFocusDevice("Z")

    def _configure(self) -> None:
        core, config = self.core, self._config
        camera = core.getCameraDevice()
        if config.binning is not None:
            self._set(camera, "Binning", str(config.binning))
        if config.bit_depth is not None:
            pixel_type = "8bit" if config.bit_depth == 8 else "16bit"
            if pixel_type in self._choices(camera, "PixelType"):
                self._set(camera, "PixelType", pixel_type)
            if str(config.bit_depth) in self._choices(camera, "BitDepth"):
                self._set(camera, "BitDepth", str(config.bit_depth))
            if core.getImageBitDepth() != config.bit_depth:
                raise InputError(
                    f"{self.uri}: the camera gives {core.getImageBitDepth()} bits where camera.bit_depth asks for "
                    f"{config.bit_depth}; set its properties under camera.micromanager.properties"
                )
        if config.gain is not None:
            self._set(camera, "Gain", f"{config.gain:g}")
        if config.roi is not None:
            core.setROI(*config.roi)
            if tuple(core.getROI()) != config.roi:
                raise InputError(f"{self.uri}: the camera makes {tuple(core.getROI())} of camera.roi {config.roi}")
        if config.exposure_ms is not None:
            self.set_exposure_ms(config.exposure_ms)

    def _format(self, interval_ms: float) -> Format:
        core = self.core
        depth, components = int(core.getImageBitDepth()), int(core.getNumberOfComponents())
        bytes_each = int(core.getBytesPerPixel())
        if (components, bytes_each) not in ((1, 1), (1, 2), (4, 4)):
            raise InputError(
                f"{self.uri}: pixels of {bytes_each} bytes in {components} colours cannot be read; "
                "choose 8bit, 16bit or 32bitRGB"
            )
        shape: tuple[int, ...] = (int(core.getImageHeight()), int(core.getImageWidth()))
        if components == 4:
            shape, depth = (*shape, 3), 8
        dtype = np.dtype(np.uint16 if bytes_each == 2 else np.uint8)
        return Format(shape, dtype, 1000 / interval_ms, "device", depth, (1 << depth) - 1)

    def _find_stages(self) -> None:
        core, wanted = self.core, self._config.micromanager
        stage, focus = wanted.xy_stage or core.getXYStageDevice(), wanted.focus or core.getFocusDevice()
        loaded = core.getLoadedDevices()
        for label in (stage, focus):
            if label and label not in loaded:
                raise InputError(f"{self.uri}: has no device {label!r}; it has {', '.join(loaded)}")
        self.stage = CoreStage(core, stage) if stage else None
        self.focus = CoreFocus(core, focus) if focus else None

    def _choices(self, label: str, name: str) -> tuple[str, ...]:
        return tuple(self.core.getAllowedPropertyValues(label, name)) if self.core.hasProperty(label, name) else ()

    def _set(self, label: str, name: str, value: str) -> None:
        try:
            self.core.setProperty(label, name, value)
        except (RuntimeError, ValueError) as error:
            raise InputError(f"{self.uri}: {label}: {name} cannot be {value!r} ({_one_line(error)})") from error


class CoreStage:
    """A Stage2D over Micro-Manager's core."""

    def __init__(self, core: Any, label: str) -> None:
        self._core, self.label = core, label

    def move_to(self, x_um: float, y_um: float) -> None:
        """Go there, and wait until the stage says that it is there."""
        with _Moving(self._core, self.label):
            self._core.setXYPosition(self.label, x_um, y_um)

    def position(self) -> tuple[float, float]:
        """Where the stage says that it is, um."""
        x, y = self._core.getXYPosition(self.label)
        return float(x), float(y)


class CoreFocus:
    """A FocusDrive over Micro-Manager's core."""

    def __init__(self, core: Any, label: str) -> None:
        self._core, self.label = core, label

    def move_to(self, z_um: float) -> None:
        """Go there, and wait until the drive says that it is there."""
        with _Moving(self._core, self.label):
            self._core.setPosition(self.label, z_um)

    def position(self) -> float:
        """Where the drive says that it is, um."""
        return float(self._core.getPosition(self.label))


class _Moving:
    """Waits for a device after what moves it, and puts its errors into one line."""

    def __init__(self, core: Any, label: str) -> None:
        self._core, self._label = core, label

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        try:
            if error is None:
                self._core.setTimeoutMs(_MOVE_MS)
                self._core.waitForDevice(self._label)
        except RuntimeError as late:
            error = late
        if isinstance(error, RuntimeError):
            raise CasaError(f"{self._label}: did not move there ({_one_line(error)})") from error


def _make_core(uri: str, adapters: str | None) -> Any:
    """A core of its own, that finds its device adapters."""
    try:
        import pymmcore
        from pymmcore_plus import CMMCorePlus
    except ImportError as error:
        raise InputError(f"{uri}: needs pymmcore-plus; install casa-engine[micromanager]") from error
    if adapters is not None and not Path(adapters).is_dir():
        raise InputError(f"{uri}: camera.micromanager.adapters: {adapters}: no such folder")
    if adapters is None and importlib.util.find_spec("mm_test_adapters") and uri == "micromanager:demo":
        import mm_test_adapters

        adapters = str(mm_test_adapters.device_adapter_path())
    core = CMMCorePlus() if adapters is None else CMMCorePlus(mm_path=adapters)
    # Nobody listens to its events, and its thread calling into Python while that ends would abort the process.
    pymmcore.CMMCore.registerCallback(core, None)
    if "DemoCamera" not in core.getDeviceAdapterNames() and uri == "micromanager:demo":
        raise InputError(f"{uri}: no device adapters found; install Micro-Manager (mmcore install) or mm-test-adapters")
    return core


def _rgb(image: np.ndarray) -> np.ndarray:
    """The core's picture, read-only; of four components (blue, green, red, nothing as stored) the three colours."""
    if image.ndim == 3:
        image = np.ascontiguousarray(image[..., :3])
    image.flags.writeable = False
    return image


def _one_line(error: object) -> str:
    return " ".join(str(error).split())
