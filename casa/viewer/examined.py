"""Forms of the heads of a recording's tracks, and the crops of those that are looked at, read in a thread. No Qt."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from casa.cells import HEAD_MEASURES, MorphologyTable
from casa.errors import CasaError
from casa.record import Recording
from casa.viewer.feed import MorphologyFigures

_KEPT = 16
#: Said where a session does not tell more.
OUTSIDE = ("its network has not learnt from such pictures",)


class ExaminedTracks:
    """What a network said of each track's head.

    Parameters
    ----------
    table : all of the recording. model : what its session says of the network.
    """

    def __init__(self, path: Path, table: MorphologyTable, model: Mapping[str, Any] | None) -> None:
        self._path, self._table, self._model = path, table.by_track(), model or {}
        self._row = {int(key): row for row, key in enumerate(self._table.track_id.tolist())}
        self._pictures: OrderedDict[int, tuple[NDArray[Any], NDArray[np.uint8] | None] | None] = OrderedDict()
        self._thread: threading.Thread | None = None

    def figures_of(self, track_id: int) -> MorphologyFigures | None:
        """What is known of a track's head; None where no clip of it was examined. Its crop comes once it is read."""
        row = self._row.get(track_id)
        if row is None:
            return None
        t = self._table
        classes = dict(zip(t.class_names, t.distribution[row].tolist(), strict=True)) if t.n_crops[row] else {}
        measures = {name: float(getattr(t, name)[row]) for name in HEAD_MEASURES}
        head, heat = self._picture(int(t.clip_id[row])) if classes else (None, None)
        reasons = tuple(map(str, self._model.get("outside") or OUTSIDE))
        return MorphologyFigures(
            normal={},
            head=head,
            heat=None if heat is None else (heat / 255).astype(np.float32),
            note=str(self._model.get("name") or ""),
            classes=classes,
            reason=str(t.reason[row]),
            measures={name: value for name, value in measures.items() if np.isfinite(value)},
            n_crops=int(t.n_crops[row]),
            outside=() if t.in_domain[row] else reasons,
            abstain_below=float(self._model.get("abstain_below") or 0.0),
        )

    def close(self) -> None:
        """Wait for what is being read."""
        if self._thread is not None:
            self._thread.join(5)

    def _picture(self, clip_id: int) -> tuple[NDArray[Any] | None, NDArray[np.uint8] | None]:
        """Crop and heat map of the sharpest clip; None until they have been read, and where they are not kept."""
        if clip_id not in self._pictures and (self._thread is None or not self._thread.is_alive()):
            self._thread = threading.Thread(target=self._read, args=(clip_id,), name="casa-view-head", daemon=True)
            self._thread.start()
        return self._pictures.get(clip_id) or (None, None)

    def _read(self, clip_id: int) -> None:
        try:
            with Recording(self._path) as recording:
                found = recording.head_pictures([clip_id]).get(clip_id)
        except CasaError:
            found = None  # the classes are shown without it
        self._pictures[clip_id] = found
        while len(self._pictures) > _KEPT:
            self._pictures.popitem(last=False)
