"""Cameras made of this machine's own network: a server of JPEG pictures over HTTP, and a sender of video over UDP."""

from __future__ import annotations

import socket
import threading
import time
from fractions import Fraction

import av
import cv2
import numpy as np


def picture(number: int, size: tuple[int, int] = (96, 72)) -> np.ndarray:
    """(h, w, 3) uint8 BGR: a reddish square that moves over a bluish background."""
    image = np.full((size[1], size[0], 3), (90, 40, 20), np.uint8)
    left = 4 + number % (size[0] - 24)
    image[10:30, left : left + 16] = (60, 90, 220)
    return image


class JpegServer:
    """``url`` gives multipart JPEG at ``fps_hz`` to one client after the other; faults are set from the test."""

    def __init__(self, fps_hz: float = 40.0) -> None:
        self._interval_s = 1 / fps_hz
        self._stop = threading.Event()
        self.stalled, self.unplugged = threading.Event(), threading.Event()
        self.size = (96, 72)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.05)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/camera"
        self._thread = threading.Thread(target=self._serve, name="jpeg-server")
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        while not self._stop.is_set():
            try:
                client, _ = self._listener.accept()
            except TimeoutError:
                continue
            with client:
                try:
                    if not self.unplugged.is_set():
                        self._send(client)
                except OSError:
                    continue

    def _send(self, client: socket.socket) -> None:
        client.settimeout(2)
        client.recv(4096)
        client.sendall(b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n")
        number = 0
        while not (self._stop.is_set() or self.unplugged.is_set()):
            time.sleep(self._interval_s)
            if self.stalled.is_set():
                continue
            data = cv2.imencode(".jpg", picture(number, self.size))[1].tobytes()
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
            client.sendall(head.encode() + data + b"\r\n")
            number += 1


class UdpSender:
    """Sends MPEG-TS of MPEG-2 video to ``url`` at ``fps_hz``, with its own times."""

    def __init__(self, fps_hz: int = 25) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", 0))
            self.url = f"udp://127.0.0.1:{probe.getsockname()[1]}"
        self._fps_hz = fps_hz
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._send, name="udp-sender")
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()

    def _send(self) -> None:
        with av.open(self.url + "?pkt_size=1316", "w", format="mpegts") as container:
            stream = container.add_stream("mpeg2video", rate=self._fps_hz, options={"g": "5", "bf": "0"})
            stream.width, stream.height, stream.pix_fmt = 96, 72, "yuv420p"
            number, began = 0, time.monotonic()
            while not self._stop.is_set():
                frame = av.VideoFrame.from_ndarray(picture(number), "bgr24")
                frame.pts, frame.time_base = number, Fraction(1, self._fps_hz)
                container.mux(stream.encode(frame))
                number += 1
                time.sleep(max(0.0, began + number / self._fps_hz - time.monotonic()))
