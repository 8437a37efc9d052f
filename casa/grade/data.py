"""Clips with their experts' votes: the folder format that clinics fill (docs/grade-data.md), as arrays to train on.

A folder holds clips (as `casa.clips` writes them, as one ``clips.npy``, or as plain videos), their votes
(`casa.grade.votes`) and, if wanted, ``about.csv``: ``clip,group`` and numbers that are known of the clips.
``dataset.toml`` names the set and says whether it is simulated.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from casa.cells import CLIP_FRAMES, CLIP_SIZE_PX, EXPERT_GRADES
from casa.errors import CasaError, InputError
from casa.grade.votes import (
    VOTES_FILE,
    VOTES_FOLDER,
    clip_row,
    named,
    read_rows,
    read_votes,
    rows_by_clip,
    shares,
    write_counts,
)
from casa.types import FloatArray, IntArray

PACKED_FILE, TABLE_FILE, ABOUT_FILE, CARD_FILE = "clips.npy", "clips.csv", "about.csv", "dataset.toml"
CACHE_FILE, CACHE_KEY_FILE = ".clips.npy", ".clips.json"
CLIP_SHAPE = (CLIP_FRAMES, CLIP_SIZE_PX, CLIP_SIZE_PX)


@dataclass(frozen=True, slots=True, eq=False)
class ClipDataset:
    """n clips with votes.

    images : (n, 16, 150, 150) uint8, often a memory map. counts : (n, 5) int64 votes, A to E. ids : (n,) int64 numbers.
    groups : (n,) int64, the sample or patient of each; folds keep groups together. um_per_px : (n,), NaN where unknown.
    covariates : name to (n,) float64, NaN where unknown. name, simulated : of the set.
    """

    images: NDArray[np.uint8]
    counts: IntArray
    ids: IntArray
    groups: IntArray
    um_per_px: FloatArray
    covariates: Mapping[str, FloatArray]
    name: str
    simulated: bool

    def __post_init__(self) -> None:
        n = len(self.ids)
        if self.images.shape != (n, *CLIP_SHAPE) or self.images.dtype != np.uint8:
            raise InputError(f"images: expected ({n}, 16, 150, 150) uint8, got {self.images.shape} {self.images.dtype}")
        for column in (self.counts, self.groups, self.um_per_px, *self.covariates.values()):
            if len(column) != n:
                raise InputError(f"a data set of {n} clips has a column of {len(column)}")

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def distribution(self) -> FloatArray:
        """(n, 5) shares of the votes, A to E."""
        return shares(self.counts)

    @property
    def majority(self) -> IntArray:
        """(n,) grade that most experts gave, 0 (A) to 4 (E); of grades with equal votes the better one."""
        return self.counts.argmax(axis=1)

    def select(self, rows: IntArray) -> ClipDataset:
        """Some of the clips."""
        rows = np.asarray(rows)
        return replace(
            self, images=self.images[rows], counts=self.counts[rows], ids=self.ids[rows],
            groups=self.groups[rows], um_per_px=self.um_per_px[rows],
            covariates={name: values[rows] for name, values in self.covariates.items()},
        )  # fmt: skip

    def fresh_panel_mse(self, n_panels: int = 100) -> float | None:
        """MSE of fresh panels of 40 simulated raters against these votes; None of clips that are not simulated."""
        from casa.simulate.closeup_anatomy import PARTS
        from casa.simulate.panel_clips import fresh_panel_mse

        names = [f"quality_{part}" for part in PARTS]
        if not self.simulated or not all(name in self.covariates for name in names):
            return None
        quality = np.stack([self.covariates[name] for name in names], axis=1)
        return float(fresh_panel_mse(quality, self.distribution, n_panels).mean())


def read_dataset(folder: Path, n_experts: int | None = None) -> ClipDataset:
    """Read a folder of clips and votes; see docs/grade-data.md.

    Parameters
    ----------
    n_experts : votes that each clip must have; None: any number, at least one.

    Raises
    ------
    InputError : anything about the folder that is not as documented, one line each.
    """
    ids, images, um_per_px = read_pictures(folder)
    votes = read_votes(folder, ids, n_experts)
    groups, scale, covariates = _read_about(folder / ABOUT_FILE, ids)
    card = read_card(folder)
    return ClipDataset(
        images=images,
        counts=votes.counts,
        ids=ids,
        groups=np.arange(len(ids)) if groups is None else groups,
        um_per_px=um_per_px if scale is None else scale,
        covariates=covariates,
        name=set_name(folder, card),
        simulated=says_simulated(card),
    )


def simulated_dataset(
    n_clips: int, seed: int, folder: Path | None = None, workers: int = 1, advance: Callable[[], object] = lambda: None
) -> ClipDataset:
    """Clips of the simulated expert panel: read from ``folder`` if it holds just these, else drawn, and written there.

    ``workers`` processes draw; ``advance`` is called after each clip.
    """
    from casa.simulate.panel_clips import render_panel, simulate_panel

    if folder is not None:
        if _is_panel(folder, n_clips, seed):
            return read_dataset(folder)
        if _clip_files(folder) and not says_simulated(read_card(folder)):
            raise InputError(f"{folder}: holds clips that are not simulated; give another folder for simulated ones")
        write_panel(folder, n_clips, seed, workers, advance)
        return read_dataset(folder)
    panel = simulate_panel(n_clips, seed)
    images = np.empty((n_clips, *CLIP_SHAPE), np.uint8)
    for k, (clip, _) in enumerate(render_panel(n_clips, seed, workers, advance)):
        images[k] = clip
    return ClipDataset(
        images=images, counts=panel.counts, ids=np.arange(1, n_clips + 1), groups=panel.sample,
        um_per_px=panel.um_per_px, covariates=_truth(panel), name=_panel_name(n_clips, seed), simulated=True,
    )  # fmt: skip


def write_panel(
    folder: Path,
    n_clips: int,
    seed: int,
    workers: int = 1,
    advance: Callable[[], object] = lambda: None,
    votes: bool = True,
) -> None:
    """Write clips of the simulated panel, with votes if wanted, truth, and a card that says that they are simulated.

    ``clips.npy`` is written under another name first: a broken off run leaves no data set behind.
    """
    from casa.simulate.panel import PAPER_EXPERTS
    from casa.simulate.panel_clips import PANEL_VERSION, render_panel, simulate_panel

    panel = simulate_panel(n_clips, seed)
    ids = np.arange(1, n_clips + 1)
    partial = folder / (PACKED_FILE + ".partial")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in (PACKED_FILE, TABLE_FILE, ABOUT_FILE, VOTES_FILE):
            (folder / name).unlink(missing_ok=True)
        images = np.lib.format.open_memmap(partial, "w+", np.uint8, (n_clips, *CLIP_SHAPE))
        for k, (clip, _) in enumerate(render_panel(n_clips, seed, workers, advance)):
            images[k] = clip
        images.flush()
        del images
        _write_table(
            folder / TABLE_FILE,
            {"clip": map(str, ids), "um_per_px": _cells(panel.um_per_px), "source": ["simulated"] * n_clips},
        )
        about: dict[str, Any] = {"clip": map(str, ids), "group": [str(g) for g in panel.sample], "mode": panel.mode}
        _write_table(folder / ABOUT_FILE, about | {name: _cells(v) for name, v in _truth(panel).items()})
        if votes:
            write_counts(folder / VOTES_FILE, ids, panel.counts)
        card = {
            "name": _panel_name(n_clips, seed), "simulated": True, "version": PANEL_VERSION, "clips": n_clips,
            "seed": seed, "experts": PAPER_EXPERTS, "made_by": f"casa grade panel --clips {n_clips} --seed {seed}",
            "note": "Simulated sperm and simulated experts: nobody has looked at these clips.",
        }  # fmt: skip
        lines = [f"{key} = {json.dumps(value)}\n" for key, value in card.items()]
        (folder / CARD_FILE).write_text("".join(lines), encoding="utf-8")
        partial.replace(folder / PACKED_FILE)
    except OSError as error:
        raise CasaError(
            f"{folder}: cannot be written ({error.strerror or error}); free space or choose another folder"
        ) from error
    finally:
        with suppress(OSError):
            partial.unlink()


def read_pictures(folder: Path) -> tuple[IntArray, NDArray[np.uint8], FloatArray]:
    """Numbers (n,), pictures (n, 16, 150, 150) uint8 and um/px (n,), NaN where unknown, of a folder's clips.

    Pictures are a memory map of the folder's own ``clips.npy``, or of a hidden copy like it that is kept beside the
    clips as long as their files stay as they are.

    Raises
    ------
    InputError : what `casa.clips.iterate_clips` says of the folder.
    """
    if (folder / PACKED_FILE).is_file():
        return _collected(folder)
    key = [[p.name, p.stat().st_size, p.stat().st_mtime_ns] for p in _clip_files(folder)]
    cache, note = folder / CACHE_FILE, folder / CACHE_KEY_FILE
    try:
        kept = json.loads(note.read_text(encoding="utf-8"))
        if kept["files"] == key:
            scales = [np.nan if v is None else v for v in kept["um_per_px"]]
            images = np.load(cache, mmap_mode="r", allow_pickle=False)
            return np.array(kept["ids"], np.int64), images, np.array(scales, np.float64)
    except (OSError, ValueError, KeyError, TypeError):
        pass  # there is none, or it is of other files
    ids, images, um_per_px = _collected(folder)
    partial = folder / f"{CACHE_FILE}.{os.getpid()}.partial"
    try:
        scales = [None if v != v else v for v in um_per_px.tolist()]
        kept = json.dumps({"files": key, "ids": ids.tolist(), "um_per_px": scales})
        # Somebody else may be reading the old copy, or writing the same one: each takes its place whole.
        with open(partial, "wb") as stream:
            np.save(stream, images)
        partial.replace(cache)
        partial.write_text(kept, encoding="utf-8")
        partial.replace(note)
        images = np.load(cache, mmap_mode="r", allow_pickle=False)
    except OSError:  # a folder that may not be written is read anew each time
        partial.unlink(missing_ok=True)
    return ids, images, um_per_px


def picture_file(folder: Path, spare: Path) -> tuple[list[int], Path]:
    """Numbers of a folder's clips and the ``.npy`` that holds their pictures; ``spare`` is written if there is none."""
    ids, images, _ = read_pictures(folder)
    if isinstance(images, np.memmap) and images.filename is not None:
        return ids.tolist(), Path(images.filename)
    np.save(spare, images)
    return ids.tolist(), spare


def _collected(folder: Path) -> tuple[IntArray, NDArray[np.uint8], FloatArray]:
    from casa.clips import iterate_clips

    packed = folder / PACKED_FILE
    ids, images, scales = [], [], []
    for clip in iterate_clips(folder):
        ids.append(clip.clip_id)
        scales.append(np.nan if clip.um_per_px is None else clip.um_per_px)
        if not packed.is_file():
            images.append(clip.images)
    pictures = np.load(packed, mmap_mode="r", allow_pickle=False) if packed.is_file() else np.array(images)
    return np.array(ids, np.int64), pictures, np.array(scales, np.float64)


def _clip_files(folder: Path) -> list[Path]:
    """Files that clips may be read from, also those within folders of pictures."""
    own = (ABOUT_FILE, CARD_FILE, VOTES_FILE)
    if not folder.is_dir():
        return []
    files = [p for p in folder.rglob("[!.]*") if p.is_file() and p.name not in own]
    return sorted(p for p in files if VOTES_FOLDER not in p.relative_to(folder).parts)


def _read_about(path: Path, ids: IntArray) -> tuple[IntArray | None, FloatArray | None, dict[str, FloatArray]]:
    """Groups, um/px and covariates; None for the first two where the file does not give them."""
    if not path.is_file():
        return None, None, {}
    rows = rows_by_clip(ids)
    found: dict[int, dict[str, str]] = {}
    for line, row in read_rows(path, ("clip",)):
        k = clip_row(rows, row["clip"], f"{path}:{line}")
        if k in found:
            raise InputError(f"{path}:{line}: clip {row['clip']!r} is there twice; keep one row")
        found[k] = row
    left_out = [ids[k] for k in range(len(ids)) if k not in found]
    if left_out:
        raise InputError(f"{path}: {named(left_out)} no row; add it")
    table = [found[k] for k in range(len(ids))]
    names = [name for name in table[0] if name not in ("clip", "group")] if table else []
    numbers = {}
    for name in names:
        try:
            numbers[name] = np.array([float(row[name]) if row[name] else np.nan for row in table])
        except ValueError:
            continue  # words are for people
    groups = None
    if table and "group" in table[0]:
        empty = [ids[k] for k, row in enumerate(table) if not row["group"]]
        if empty:
            raise InputError(f"{path}: {named(empty)} no group; name the sample or the patient, or drop the column")
        groups = np.unique([row["group"] for row in table], return_inverse=True)[1].astype(np.int64)
    return groups, numbers.pop("um_per_px", None), numbers


def read_card(folder: Path) -> dict[str, Any]:
    """What ``dataset.toml`` says; nothing where there is none.

    Raises
    ------
    InputError : it is no TOML, or ``simulated`` neither true nor false.
    """
    path = folder / CARD_FILE
    if not path.is_file():
        return {}
    try:
        card = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"{path}: cannot be read as TOML ({error})") from error
    if not isinstance(card.get("simulated", False), bool):
        raise InputError(f"{path}: simulated: expected true or false, got {card['simulated']!r}")
    return card


def says_simulated(card: Mapping[str, Any]) -> bool:
    """Whether a card of ``read_card`` says that its clips are simulated; one that says nothing does not."""
    return bool(card.get("simulated", False))


def set_name(folder: Path, card: Mapping[str, Any]) -> str:
    """What a folder's set is called; of a simulated one the name always says so."""
    name = str(card.get("name", folder.resolve().name))
    return name + " (simulated)" if says_simulated(card) and "simulated" not in name.lower() else name


def _is_panel(folder: Path, n_clips: int, seed: int) -> bool:
    from casa.simulate.panel_clips import PANEL_VERSION

    card = read_card(folder)
    of_this = card.get("name") == _panel_name(n_clips, seed) and card.get("version") == PANEL_VERSION
    return of_this and (folder / PACKED_FILE).is_file()


def _panel_name(n_clips: int, seed: int) -> str:
    return f"simulated panel, {n_clips} clips, seed {seed}"


def _truth(panel: Any) -> dict[str, FloatArray]:
    """Columns of what is known of simulated clips."""
    from casa.simulate.closeup_anatomy import DEFECT_NAMES, PARTS

    columns = {f"quality_{part}": panel.quality[:, k] for k, part in enumerate(PARTS)}
    columns |= {f"expected_{grade}": panel.expected[:, k] for k, grade in enumerate(EXPERT_GRADES)}
    return columns | {name: panel.severity[:, k] for k, name in enumerate(DEFECT_NAMES)}


def _cells(values: FloatArray) -> list[str]:
    return ["" if v != v else f"{v:.9g}" for v in values.tolist()]


def _write_table(path: Path, columns: Mapping[str, Any]) -> None:
    with open(path, "w", encoding="utf-8", newline="") as stream:
        stream.write(",".join(columns) + "\n")
        for row in zip(*columns.values(), strict=True):
            stream.write(",".join(row) + "\n")
