"""The graders' work queue: which clip is next, who has it, and what became of each. Knows no sockets.

Every clip that is taken ends as exactly one of graded, superseded (a newer clip of its track took its place), left out
(for want of room or time) or failed. Tracks without a grade come first, and of these the newest clip; then the track
whose grade is the oldest.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass

from casa.bus.cell_messages import GradingMetrics
from casa.cells import Clip


@dataclass(slots=True)
class Job:
    """A clip on its way; ``grader`` is who has it, ``attempts`` how often it was given to one."""

    clip: Clip
    grader: bytes = b""
    attempts: int = 0


class WorkQueue:
    """Clips that wait, at most one of each track, and those that are with a grader. Safe for several threads.

    Parameters
    ----------
    depth : clips that wait at most. attempts : a clip that lost so many graders is failed.
    """

    def __init__(self, depth: int, attempts: int) -> None:
        self._depth, self._attempts = depth, attempts
        self._lock = threading.Lock()
        self._waiting: dict[int, Job] = {}  # by track, in the order in which they came
        self._under_way: dict[int, Job] = {}  # by clip
        self._graded: dict[int, int] = {}  # number of the last grading, by track
        self._favoured: set[int] = set()
        self._numbers = 0
        self._closed = False
        self._taken = self._superseded = self._left_out = self._failed = self._n_tracks = 0

    def put(self, clip: Clip) -> None:
        """Take a clip; one of the same track that waits still is superseded."""
        with self._lock:
            self._taken += 1
            if self._closed:
                self._left_out += 1
                return
            if self._waiting.pop(clip.track_id, None) is not None:
                self._superseded += 1
            self._waiting[clip.track_id] = Job(clip)
            self._make_room()

    def take(self, grader: bytes) -> Job | None:
        """The clip that is next, now with this grader; None where none waits."""
        with self._lock:
            if not self._waiting:
                return None
            order = {key: number for number, key in enumerate(self._waiting, start=1)}
            # asked for by somebody who looks; then without a grade, the newest first; then the oldest grade
            track_id = min(
                self._waiting,
                key=lambda key: (key not in self._favoured, self._graded.get(key, -order[key])),
            )
            job = self._waiting.pop(track_id)
            job.grader = grader
            job.attempts += 1
            self._under_way[job.clip.clip_id] = job
            return job

    def graded(self, grader: bytes, clip_id: int) -> Clip | None:
        """A grader has graded a clip; None where that clip is not with it."""
        with self._lock:
            job = self._of(grader, clip_id)
            if job is None:
                return None
            self._numbers += 1
            self._n_tracks += job.clip.track_id not in self._graded
            self._graded[job.clip.track_id] = self._numbers
            return job.clip

    def failed(self, grader: bytes, clip_id: int) -> Clip | None:
        """A grader cannot grade a clip; None where that clip is not with it."""
        with self._lock:
            job = self._of(grader, clip_id)
            self._failed += job is not None
            return None if job is None else job.clip

    def lost(self, grader: bytes) -> int:
        """A grader has gone: its clips wait for another one. Gives how many there were."""
        with self._lock:
            jobs = [job for job in self._under_way.values() if job.grader == grader]
            for job in jobs:
                del self._under_way[job.clip.clip_id]
                if job.attempts >= self._attempts:
                    self._failed += 1
                elif self._closed and job.clip.track_id in self._graded:
                    self._left_out += 1
                elif job.clip.track_id in self._waiting:
                    self._superseded += 1
                else:  # it is older than what waits
                    self._waiting = {job.clip.track_id: job} | self._waiting
            self._make_room()
            return len(jobs)

    def favour(self, track_id: int) -> None:
        """Somebody looks at this track, and at no other: its clips come first."""
        with self._lock:
            self._favoured = {track_id}

    def is_favoured(self, track_id: int) -> bool:
        """Whether somebody looks at this track."""
        return track_id in self._favoured

    def has(self, track_id: int) -> bool:
        """Whether a clip of the track waits or is with a grader."""
        with self._lock:
            return track_id in self._waiting or any(j.clip.track_id == track_id for j in self._under_way.values())

    def forget(self, track_ids: Iterable[int]) -> None:
        """These tracks have ended, and no clip of them will come; call when ``has`` says no."""
        with self._lock:
            for track_id in track_ids:
                self._graded.pop(track_id, None)

    def close(self) -> None:
        """Take no more, and leave out what waits of tracks that have a grade."""
        with self._lock:
            self._closed = True
            for track_id in [key for key in self._waiting if key in self._graded]:
                del self._waiting[track_id]
                self._left_out += 1

    def abandon(self) -> None:
        """Leave out everything that is not graded."""
        with self._lock:
            self._closed = True
            self._left_out += len(self._waiting) + len(self._under_way)
            self._waiting.clear()
            self._under_way.clear()

    @property
    def n_waiting(self) -> int:
        """Clips that wait for a grader."""
        return len(self._waiting)

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits and nothing is with a grader."""
        with self._lock:
            return not self._waiting and not self._under_way

    def counts(self) -> GradingMetrics:
        """What became of the clips so far."""
        with self._lock:
            return GradingMetrics(
                taken=self._taken,
                graded=self._numbers,
                superseded=self._superseded,
                left_out=self._left_out,
                failed=self._failed,
                waiting=len(self._waiting),
                under_way=len(self._under_way),
                tracks=self._n_tracks,
            )

    def _make_room(self) -> None:
        """Leave out what is too much: of tracks with a grade first, and the oldest; call with the lock held."""
        while len(self._waiting) > self._depth:
            del self._waiting[next((key for key in self._waiting if key in self._graded), next(iter(self._waiting)))]
            self._left_out += 1

    def _of(self, grader: bytes, clip_id: int) -> Job | None:
        """Take a job from who has it; call with the lock held."""
        job = self._under_way.get(clip_id)
        if job is None or job.grader != grader:
            return None
        return self._under_way.pop(clip_id)
