"""Decoding a file from its first packet to its last, with every packet's frame accounted for.

A frame is matched to the packet it came from, so a packet without a frame is known to be lost, at its own place in
the order of display, and the decoding goes on behind it.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import av.error
from av.codec.context import Flags

from casa.sources.container import AVI, ONE_PACKET_A_FRAME, one_line, open_container
from casa.types import FrameStatus


@dataclass(frozen=True, slots=True)
class Lost:
    """In place of a decoded picture: why there is none."""

    reason: str
    status: FrameStatus = FrameStatus.FAILED


#: (timestamp in ticks of the stream's time base, or None; decoded ``av.VideoFrame``, or why it is lost)
Decoded = tuple[int | None, Any]


class _Waiting:
    """Packets whose frames have not come out of the decoder yet, in order of display."""

    def __init__(self, reordered: bool) -> None:
        self._reordered = reordered
        self._heap: list[tuple[int, int]] = []
        self._entries: dict[int, tuple[tuple[int, int], int | None, Lost | None]] = {}
        self._given_up: set[int] = set()

    def add(self, number: int, ticks: int | None, lost: Lost | None = None) -> None:
        """Packet ``number`` (in file order) will give a frame, or is known to give none."""
        key = (ticks if self._reordered and ticks is not None else number, number)
        heapq.heappush(self._heap, key)
        self._entries[number] = (key, ticks, lost)

    def came_out(self, number: int, frame: Any, reason: str) -> Iterator[Decoded]:
        """The frame of packet ``number``, after the lost ones that belong before it."""
        if number in self._given_up:
            return
        key, ticks, _ = self._entries[number]
        while self._heap[0] < key:
            yield self._give_up(reason)
        heapq.heappop(self._heap)
        del self._entries[number]
        yield ticks, frame

    def rest(self, reason: str) -> Iterator[Decoded]:
        """All that are still waiting, lost."""
        while self._heap:
            yield self._give_up(reason)

    def __contains__(self, number: object) -> bool:
        return number in self._entries or number in self._given_up

    def _give_up(self, reason: str) -> Decoded:
        _, number = heapq.heappop(self._heap)
        _, ticks, lost = self._entries.pop(number)
        self._given_up.add(number)
        return ticks, lost or Lost(reason)


def decode(path: Path, strict: bool, reordered: bool) -> Iterator[Decoded]:
    """Every frame of a video in order of display: decoded, or lost and why.

    Parameters
    ----------
    strict : give up a damaged frame instead of showing what the decoder patches together.
    reordered : whether the stream shows its frames in another order than it holds them (B frames).
    """
    with open_container(path) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        # One thread: the decoder then holds back no frames of its own that an error could take along.
        context.thread_count = 1
        context.flags |= Flags.copy_opaque
        if strict:
            context.options = {"err_detect": "explode"}
        format_name = container.format.name
        counted = format_name == AVI and not reordered  # its timestamps are frame numbers, empty frames included
        matched = format_name in ONE_PACKET_A_FRAME and (format_name != AVI or counted)
        waiting = _Waiting(reordered)
        number, expected = 0, None
        reason = "the decoder gave no picture for it"
        for packet in _packets(container, stream):
            if isinstance(packet, Lost):
                reason = packet.reason
                continue
            if packet is not None:
                if counted and packet.dts is not None:
                    for ticks in range(packet.dts if expected is None else expected, packet.dts):
                        waiting.add(number, ticks, Lost("the file holds an empty frame here", FrameStatus.DROPPED))
                        number += 1
                    expected = packet.dts + 1
                # An object of its own for each packet: PyAV keys what it carries by the object's address, and numbers
                # are shared between readings (CPython's small integers), so one's freed frame takes another's mark.
                packet.opaque = (number,)
                if matched and _shows_a_frame(packet, context.name):
                    waiting.add(number, packet.pts if packet.pts is not None else packet.dts)
                number += 1
            try:
                frames = context.decode(packet)
            except av.error.FFmpegError as error:
                reason = f"it could not be decoded ({one_line(error)})"
                # Where the header states their number, the lost ones are known at the end without guessing here.
                if not matched and packet is not None and not stream.frames:
                    yield None, Lost(reason)
                continue
            for frame in frames:
                own: int = frame.opaque[0] if frame.opaque is not None else -1
                if frame.is_corrupt:
                    if own not in waiting:
                        yield frame.pts, Lost("it could not be decoded (its data is damaged)")
                elif own in waiting:
                    yield from waiting.came_out(own, frame, reason)
                else:
                    yield frame.pts, frame
        yield from waiting.rest(reason)


def frame_ticks(path: Path, reordered: bool) -> list[int | None]:
    """The timestamps of `decode`'s items without decoding any: one a frame the file has data (or a place) for."""
    with open_container(path) as container:
        stream = container.streams.video[0]
        counted = container.format.name == AVI and not reordered
        ticks: list[int | None] = []
        for packet in _packets(container, stream):
            if packet is None or isinstance(packet, Lost) or not _shows_a_frame(packet, stream.codec_context.name):
                continue
            own = packet.pts if packet.pts is not None else packet.dts
            if counted and own is not None and ticks and ticks[-1] is not None:
                ticks.extend(range(ticks[-1] + 1, own))
            ticks.append(own)
    if reordered and None not in ticks:
        ticks.sort(key=lambda t: t or 0)
    return ticks


def _packets(container: Any, stream: Any) -> Iterator[Any]:
    """The stream's packets with data, Lost where reading broke off, and None at the end, to empty the decoder."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            break
        except av.error.FFmpegError as error:
            yield Lost(f"the file cannot be read from here on ({one_line(error)})")
            break
        if packet.size:
            yield packet
    yield None


def _shows_a_frame(packet: Any, codec: str) -> bool:
    """Whether a frame is to be expected from the packet: not before a cut, nor VP8's unseen reference frames."""
    if packet.is_discard:
        return False
    # RFC 6386, 9.1: bit 4 of the first byte is show_frame.
    return codec != "vp8" or bool(bytes(packet)[0] >> 4 & 1)
