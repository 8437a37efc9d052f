"""The wizard's other half: the process that has the microscope (`casa calibrate serve`), seen from the window."""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
from PySide6 import QtCore

from casa.lifeline import child_environment

_END_MS = 3000
_MAX_BYTES = 64 << 20


class WizardProcess(QtCore.QObject):
    """Runs the process; ``message`` comes with each of its messages, and a picture (or None).

    ``ended`` comes when it has died by itself, with what it last wrote on its standard error.
    """

    message = QtCore.Signal(dict, object)
    ended = QtCore.Signal(str)

    def __init__(self, arguments: list[str], parent: QtCore.QObject | None = None) -> None:
        super().__init__(parent)
        self._arguments = arguments
        self._process: QtCore.QProcess | None = None
        self._buffer = bytearray()
        self._waiting: dict[str, Any] | None = None
        self._wanted = False

    @property
    def pid(self) -> int:
        """Its process number; 0 where it does not run."""
        return 0 if self._process is None else int(self._process.processId())

    def start(self) -> None:
        """Start it, also again."""
        self.stop()
        process = QtCore.QProcess(self)
        environment = QtCore.QProcessEnvironment()
        for key, value in child_environment().items():
            environment.insert(key, value)
        process.setProcessEnvironment(environment)
        process.readyReadStandardOutput.connect(self._read)
        process.finished.connect(self._finished)
        process.errorOccurred.connect(self._not_started)
        self._buffer.clear()
        self._waiting, self._wanted, self._process = None, True, process
        process.start(sys.executable, ["-m", "casa", *self._arguments])

    def send(self, command: dict[str, Any]) -> None:
        """Send a command; nothing where the process does not run."""
        if self._process is not None and self._process.state() == QtCore.QProcess.ProcessState.Running:
            self._process.write(json.dumps(command).encode() + b"\n")

    def stop(self) -> None:
        """End it, and wait for that."""
        process, self._process, self._wanted = self._process, None, False
        if process is None:
            return
        process.blockSignals(True)
        if process.state() != QtCore.QProcess.ProcessState.NotRunning:
            process.write(b'{"do": "stop"}\n')
            process.closeWriteChannel()
            if not process.waitForFinished(_END_MS):
                process.kill()
                process.waitForFinished(_END_MS)
        process.deleteLater()

    def _read(self) -> None:
        if self._process is None:
            return
        self._buffer += self._process.readAllStandardOutput().data()
        while self._take():
            pass

    def _take(self) -> bool:
        """Give on one message, where one is whole."""
        if self._waiting is None:
            end = self._buffer.find(b"\n")
            if end < 0:
                return False
            self._waiting = json.loads(bytes(self._buffer[:end]))
            del self._buffer[: end + 1]
        assert self._waiting is not None
        n = int(self._waiting.get("bytes", 0))
        if not 0 <= n <= _MAX_BYTES:
            raise ValueError(f"a message of {n} bytes")
        if len(self._buffer) < n:
            return False
        message, self._waiting = self._waiting, None
        picture = None
        if n:
            picture = np.frombuffer(bytes(self._buffer[:n]), np.uint8).reshape(message["shape"])
            del self._buffer[:n]
        self.message.emit(message, picture)
        return self._process is not None

    def _finished(self) -> None:
        if self._process is None or not self._wanted:
            return
        self._read()
        lines = bytes(self._process.readAllStandardError().data()).decode("utf-8", "replace").strip().splitlines()
        self._wanted = False
        self.ended.emit(lines[-1] if lines else "it was ended from outside")

    def _not_started(self, error: QtCore.QProcess.ProcessError) -> None:
        if error == QtCore.QProcess.ProcessError.FailedToStart and self._wanted:
            self._wanted = False
            self.ended.emit("it cannot be started")
