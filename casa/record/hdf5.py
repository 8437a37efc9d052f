"""Writing the HDF5 tables: appended in batches, either readable while they grow (SWMR) or compressed.

Not both: under SWMR a compressed chunk that is written again at another size leaves a hole in the file each time, so
the running file is plain and the finished one is packed from the journal.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from casa.record.schema import CLIP_BYTES, FORMAT, FORMAT_VERSION, HEAD_BYTES, PNG_BYTES, TABLES, kinematics_rows
from casa.types import KinematicsTable, Summary

#: Rows committed to each table of a running file, in the order of TABLES: what lies beyond is not all there yet.
COMMITTED = "committed_rows"

_CHUNK_ROWS = {"frames": 2048, "detections": 8192, "tracks": 8192, "kinematics": 512, "pictures": 256,
               "events": 256, "video": 2048, "clips": 64, "grades": 512, "morphology": 256}  # fmt: skip
#: Smaller where nothing is compressed: a short session should not need room for chunks it never fills.
_LIVE_CHUNK_ROWS = {"frames": 256, "detections": 2048, "tracks": 2048, "kinematics": 64, "pictures": 64,
                    "events": 64, "video": 256, "clips": 16, "grades": 64, "morphology": 64}  # fmt: skip
_PNG_CHUNK_BYTES = {False: 1 << 18, True: 1 << 16}  # by whether the file is live
_CACHE_BYTES_PER_DATASET = 1 << 19  # one of the largest chunks fits; there are about seventy datasets


def json_text(value: Any) -> str:
    """JSON that every parser takes: NaN and infinities become null."""

    def clean(item: Any) -> Any:
        if hasattr(item, "item"):
            item = item.item()
        if isinstance(item, float) and not np.isfinite(item):
            return None
        if isinstance(item, dict):
            return {str(key): clean(part) for key, part in item.items()}
        if isinstance(item, (list, tuple)):
            return [clean(part) for part in item]
        return item

    return json.dumps(clean(value), default=str, ensure_ascii=False)


class TableFile:
    """The tables of one HDF5 file, open for appending.

    Parameters
    ----------
    path : created; must not exist.
    attributes : root attributes; strings are stored as variable-length UTF-8.
    live : readable by other processes while it grows; rows become visible at ``flush``. Otherwise compressed, and
        rows are written as chunks fill.
    """

    def __init__(self, path: Path, attributes: dict[str, Any], *, live: bool) -> None:
        self._live = live
        self._chunk_rows = _LIVE_CHUNK_ROWS if live else _CHUNK_ROWS
        self._waiting: dict[str, list[bytes]] = {name: [] for name in TABLES}
        self._waiting_rows = dict.fromkeys(TABLES, 0)
        self._rows = dict.fromkeys(TABLES, 0)
        self._png_end = {PNG_BYTES: 0, CLIP_BYTES: 0, HEAD_BYTES: 0}
        # kept open: HDF5 writes what it holds of a dataset when that is closed, where an error could not be caught
        self._datasets: dict[str, Any] = {}
        self._file = _create(path, live=live)
        try:
            self._file.attrs.update({"format": FORMAT, "format_version": FORMAT_VERSION, **attributes})
            packing = {} if live else {"compression": "gzip", "compression_opts": 1, "fletcher32": True}
            for name, row in TABLES.items():
                for column in row.names or ():
                    base, shape = row[column].subdtype or (row[column], ())
                    self._datasets[f"{name}/{column}"] = self._file.create_dataset(
                        f"{name}/{column}",
                        (0, *shape),
                        maxshape=(None, *shape),
                        chunks=(self._chunk_rows[name], *shape),
                        dtype=h5py.string_dtype("utf-8", base.itemsize) if base.kind == "S" else base,
                        **packing,
                        **({} if live else {"shuffle": base.itemsize > 1 and base.kind != "S"}),
                    )
            for name in (PNG_BYTES, CLIP_BYTES, HEAD_BYTES):
                self._datasets[name] = self._file.create_dataset(
                    name, (0,), maxshape=(None,), chunks=(_PNG_CHUNK_BYTES[live],), dtype="u1", fletcher32=not live
                )
            if live:
                self._datasets[COMMITTED] = self._file.create_dataset(COMMITTED, data=np.zeros(len(TABLES), "<i8"))
                self._file.swmr_mode = True
        except BaseException:
            self.abandon()
            path.unlink(missing_ok=True)
            raise

    def add(self, table: str, rows: bytes) -> None:
        """Append packed rows of a table; they are held in memory until a flush, or until a chunk is full."""
        self._waiting[table].append(rows)
        self._waiting_rows[table] += len(rows) // TABLES[table].itemsize
        if self._waiting_rows[table] >= _CHUNK_ROWS[table]:
            self._write(table, whole_chunks=not self._live)

    def add_picture(self, frame: int, t_ns: int, png: bytes) -> None:
        """Append a picture: a row of ``pictures``, and its PNG file."""
        offset = self._append_png(PNG_BYTES, png)
        self.add("pictures", np.array([(frame, t_ns, offset, len(png))], TABLES["pictures"]).tobytes())

    def add_clip(self, payload: bytes) -> None:
        """Append a clip: a row of ``clips`` (its place is not known yet), its pictures and its maps behind it."""
        self._add_with_pictures("clips", CLIP_BYTES, payload)

    def add_head(self, payload: bytes) -> None:
        """Append a head: a row of ``morphology`` (its place is not known yet), its crop and its heat map behind it."""
        self._add_with_pictures("morphology", HEAD_BYTES, payload)

    def _add_with_pictures(self, table: str, pictures: str, payload: bytes) -> None:
        size = TABLES[table].itemsize
        row = np.frombuffer(payload[:size], TABLES[table]).copy()
        row["offset"] = self._append_png(pictures, payload[size:])
        self.add(table, row.tobytes())

    def _append_png(self, name: str, png: bytes) -> int:
        """Append to the bytes of all pictures; gives where."""
        offset = self._png_end[name]
        self._append(name, np.frombuffer(png, np.uint8), offset)
        self._png_end[name] += len(png)
        return offset

    def flush(self) -> None:
        """Write what waits; in a live file, make it visible to readers."""
        for table in TABLES:
            self._write(table, whole_chunks=False)
        if self._live:
            # data before the counts that vouch for it: a reader may look between the two
            self._file.flush()
            self._datasets[COMMITTED][...] = list(self._rows.values())
            self._file.flush()

    def set_attributes(self, attributes: dict[str, Any]) -> None:
        """Set root attributes; not in a live file, where HDF5 forbids it."""
        self._file.attrs.update(attributes)

    def close(self) -> None:
        """Flush and close."""
        self.flush()
        self._file.flush()
        self._datasets.clear()
        self._file.close()

    def abandon(self) -> None:
        """Close a file that cannot be written any more, giving up what HDF5 still holds in memory.

        HDF5 tries again to write it when the file is closed and when the process ends, and where that fails too
        (a full disk) the process crashes: so the writes are let through to nowhere.
        """
        if not self._file.id.valid:
            return
        try:
            null = os.open(os.devnull, os.O_RDWR)
            try:
                os.dup2(null, self._file.id.get_vfd_handle())
            finally:
                os.close(null)
            self._datasets.clear()
            self._file.close()
        except (OSError, RuntimeError, ValueError):
            pass

    def _write(self, table: str, *, whole_chunks: bool) -> None:
        if not self._waiting[table]:
            return
        batch = np.frombuffer(b"".join(self._waiting[table]), TABLES[table])
        n = len(batch)
        if whole_chunks:
            # a chunk that is written once is compressed once
            n = max(0, n - (self._rows[table] + n) % _CHUNK_ROWS[table])
        for column in batch.dtype.names or ():
            self._append(f"{table}/{column}", batch[column][:n], self._rows[table])
        self._rows[table] += n
        self._waiting[table] = [batch[n:].tobytes()] if n < len(batch) else []
        self._waiting_rows[table] = len(batch) - n

    def _append(self, name: str, values: NDArray[Any], start: int) -> None:
        _replace_from(self._datasets[name], start, values)


def _create(path: Path, *, live: bool) -> h5py.File:
    if path.exists():
        raise FileExistsError(f"{path} exists")
    try:
        return h5py.File(
            path,
            "x",
            libver="latest" if live else ("v110", "v110"),
            locking="best-effort",
            rdcc_nbytes=_CACHE_BYTES_PER_DATASET,
        )
    except (OSError, RuntimeError):
        path.unlink(missing_ok=True)
        raise


def _replace_from(dataset: Any, start: int, values: NDArray[Any]) -> None:
    """Make ``values``, of the dataset's own type, its rows from ``start`` to its end.

    By HDF5's own calls: this runs for fifty columns twice a second, and h5py's indexing takes three times as long.
    """
    values = np.ascontiguousarray(values)
    column = dataset.id
    column.set_extent((start + len(values), *values.shape[1:]))
    if not len(values):
        return
    rows = column.get_space()
    rows.select_hyperslab((start, *[0] * (values.ndim - 1)), values.shape)
    # the type in memory is the one in the file: also where that says that bytes are UTF-8, and HDF5 takes no others
    column.write(h5py.h5s.create_simple(values.shape), rows, values, column.get_type())


def add_analysis(path: Path, kinematics: KinematicsTable, summary: Summary) -> None:
    """Replace the kinematics and the summary of a packed file, synced."""
    rows = kinematics_rows(kinematics)
    with h5py.File(path, "r+", locking="best-effort") as file:
        for column in rows.dtype.names or ():
            _replace_from(file[f"kinematics/{column}"], 0, rows[column])
        file.attrs["summary"] = json_text(asdict(summary))
        recovered: Any = json.loads(str(file.attrs.get("recovered", "{}")))
        file.attrs["recovered"] = json_text(recovered | {"analysis": "recomputed"})
    with path.open("rb+") as stream:
        os.fsync(stream.fileno())
