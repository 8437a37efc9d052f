"""What a million recordings would need, as docs/scale.md has it; and what the parts of that cost on this machine.

    python tools/measure_scale.py                      the tables of docs/scale.md, from the figures of `Archive`
    python tools/measure_scale.py results --recordings 10000

The second one measures: sizes in a finished batch, and of so many marks, and copies of one recording's tables, in a
temporary folder the seconds of planning, going on and asking. Prints one JSON object of seconds, bytes and kB.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from casa.batch.inputs import Item
from casa.batch.plan import DONE, Plan, make_plan, read_marks
from casa.batch.settings import resolved
from casa.batch.store import open_store
from casa.config import Config


@dataclass(frozen=True, slots=True)
class Archive:
    """Recordings, what one of them takes, and what is paid; sizes in bytes, prices in USD."""

    recordings: int = 1_000_000
    frames: int = 1500
    duration_s: float = 30.0
    heads: int = 40
    tracks: int = 120
    source_frame: float = 8700
    h5_frame: float = 1700
    h5_file: float = 80_000
    picture: float = 520_000
    tracks_row: float = 24
    kinematics_row: float = 150
    recordings_row: float = 7600
    mark: float = 650
    clips_head_s: float = 0.74
    grades_row: float = 190
    morphology_row: float = 67
    clip: float = 140_000
    heads_clip: float = 2200
    cpu_ms_frame: float = 9.4
    clips_ms_frame: float = 1.7
    grade_ms_clip: float = 9.0
    morphology_ms_clip: float = 60.0
    core_hour: float = 0.04
    core_hour_spot: float = 0.012
    gb_month: float = 0.023
    writes_1000: float = 0.005
    reads_1000: float = 0.0004
    cores: int = 64
    machines: int = 16

    @property
    def clips(self) -> float:
        """Of a recording."""
        return self.heads * self.duration_s * self.clips_head_s

    @property
    def pictures(self) -> int:
        """Of the field, kept in a recording: one every 10 s."""
        return int(self.duration_s // 10)

    @property
    def cpu_s(self) -> float:
        """Of a recording."""
        return self.frames * self.cpu_ms_frame / 1e3

    @property
    def core_hours(self) -> float:
        """Of all recordings."""
        return self.recordings * self.cpu_s / 3600

    @property
    def bytes(self) -> dict[str, float]:
        """Of all recordings, by kind."""
        each = {
            "sources": self.frames * self.source_frame,
            "HDF5 files": self.h5_file + self.frames * self.h5_frame + self.pictures * self.picture,
            "tracks": self.frames * self.heads * self.tracks_row,
            "kinematics": self.tracks * self.kinematics_row,
            "recordings": self.recordings_row,
            "marks": self.mark,
        }
        return {name: self.recordings * size for name, size in each.items()}

    @property
    def requests(self) -> tuple[int, int]:
        """Writes and reads of an object store: a result is put beside and copied, a mark written.

        Read are, a recording, its address and bytes, whether each result and the mark are there, and the mark itself.
        """
        results = 4
        return self.recordings * (2 * results + 1), self.recordings * (2 + results + 2)


def given(a: Archive) -> list[str]:
    """The table of what is put in, measured or assumed."""
    what = f"{a.duration_s:.0f} s, {a.frames / a.duration_s:.0f} frames/s: {a.frames:,} frames"
    hdf5 = f"{a.h5_frame / 1e3:.1f} kB a frame; {a.picture / 1e6:.2f} MB a picture, kept every 10 s"
    small = f"{a.kinematics_row:.0f} bytes a row (a track); {_bytes(a.recordings_row)}"
    rows = f"{a.grades_row:.0f} and {a.morphology_row:.0f} bytes a clip"
    kept = f"{_bytes(a.clip)} a track, its last clip; {_bytes(a.heads_clip)} a clip"
    clips = f"{a.clips_head_s:.2f} for a head and second"
    ms = f"{a.clips_ms_frame:g} ms a frame; a clip {a.grade_ms_clip:g} ms graded, {a.morphology_ms_clip:g} examined"
    core = f"{a.core_hour:g} USD an hour, {a.core_hour_spot:g} where it may be taken away at any time"
    store = f"{a.gb_month:g} USD a GB and month; {a.writes_1000:g} for 1,000 writes, {a.reads_1000:g} for 1,000 reads"
    return [
        f"| a recording | {what}; {a.heads} heads a frame, {a.tracks} tracks | **a** |",
        f"| its file, H.264 | {a.source_frame / 1e3:.1f} kB a frame | **m** |",
        f"| its HDF5 file | {hdf5}; {_bytes(a.h5_file)} besides | **m** |",
        f"| its part of `tracks` | {a.tracks_row:.0f} bytes a row | **m** |",
        f"| of `kinematics`, `recordings` | {small} | **m** |",
        f"| its mark | {a.mark / 1e3:.2f} kB | **m** |",
        f"| CPU | {a.cpu_ms_frame:g} ms a frame: {a.cpu_s:.0f} s of one core | **m** |",
        f"| clips, with `--grade` or `--morphology` | {clips}: {a.clips:.0f} | **m** |",
        f"| their CPU | {ms} | **m** |",
        f"| of `grades`, `morphology` | {rows} | **m** |",
        f"| what the HDF5 file keeps of them | {kept} examined | **m** |",
        f"| price of a core | {core} | **a** |",
        f"| price of object storage | {store} | **a** |",
    ]


def storage(a: Archive) -> list[str]:
    """The table of bytes and files."""
    b = a.bytes
    dataset = b["tracks"] + b["kinematics"] + b["recordings"]
    on_disk = a.recordings * -(-a.mark // 4096) * 4096
    return [
        f"| sources | {_bytes(b['sources'])} | {_many(a.recordings)} |",
        f"| HDF5 files | {_bytes(b['HDF5 files'])} | {_many(a.recordings)} |",
        f"| data set | {_bytes(dataset)}, nearly all of it `tracks` | {_many(3 * a.recordings)} |",
        f"| marks | {_bytes(b['marks'])} ({_bytes(on_disk)} on a disk of 4 kB blocks) | {_many(a.recordings)} |",
    ]


def computing(a: Archive) -> list[str]:
    """The table of time and cost."""
    hours, usd, spot = a.core_hours, a.core_hours * a.core_hour, a.core_hours * a.core_hour_spot
    return [
        f"| 2 cores | {hours / 48:.0f} days | |",
        f"| one of {a.cores} cores | {hours / a.cores:.0f} hours | {usd:.0f} USD, or {spot:.0f} |",
        f"| {a.machines} of {a.cores} cores | {hours / a.cores / a.machines:.1f} hours | the same |",
    ]


def keeping(a: Archive) -> list[str]:
    """The table of what an object store costs."""
    stored, (writes, reads) = sum(a.bytes.values()), a.requests
    month = stored / 1e9 * a.gb_month
    days = a.core_hours * a.core_hour / (month / 30)
    return [
        f"| keeping {_bytes(stored)} | {month:.0f} USD a month: after {days:.0f} days more than the analysis |",
        f"| {_many(writes)} writes | {writes / 1000 * a.writes_1000:.0f} USD |",
        f"| {_many(reads)} reads | {reads / 1000 * a.reads_1000:.0f} USD |",
    ]


def networks(a: Archive) -> list[str]:
    """The table of what --grade and --morphology add."""
    each = {
        "`--grade`": (a.frames * a.clips_ms_frame + a.clips * a.grade_ms_clip, a.grades_row, a.tracks * a.clip),
        "`--morphology`": (
            a.frames * a.clips_ms_frame + a.clips * a.morphology_ms_clip, a.morphology_row, a.clips * a.heads_clip,
        ),
    }  # fmt: skip
    lines = []
    for name, (ms, row, kept) in each.items():
        hours = a.recordings * ms / 3.6e6
        what = f"{ms / 1000:.0f} s, {hours:,.0f} core hours, {hours * a.core_hour:.0f} USD"
        table = a.recordings * a.clips * row
        lines.append(f"| {name} | {what} | {_bytes(table)} | {_bytes(a.recordings * kept)} |")
    return lines


def _bytes(n: float) -> str:
    unit, name = next((u, s) for u, s in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")) if n >= u)
    return f"{n / unit:.{0 if n / unit >= 9.95 else 1}f} {name}"


def _many(n: int) -> str:
    return f"{n / 1e6:g} M"


def seconds(work: Callable[[], Any]) -> float:
    """How long it takes."""
    began = time.perf_counter()
    work()
    return round(time.perf_counter() - began, 3)


def sizes(results: Path) -> dict[str, Any]:
    """Bytes a frame, row and file in a finished batch: what `Archive` has of them; its mean over recordings."""
    import pyarrow.parquet as pq

    marks = [path for path in (results / DONE).glob("*.json") if not path.name.startswith(".")]
    told = [json.loads(path.read_text()) for path in marks]
    found: dict[str, Any] = {"finished": len(told), "frames": sum(mark["frames"] for mark in told)}
    found["mark_bytes"] = sum(path.stat().st_size for path in marks) / len(marks)
    found |= _sizes_of_hdf5(sorted((results / "recordings").glob("*.h5")), found["frames"])
    for folder in sorted(p for p in (results / "dataset").iterdir() if p.name != "settings"):
        files = sorted(folder.glob("*.parquet"))
        rows = sum(pq.ParquetFile(path).metadata.num_rows for path in files)
        found[f"{folder.name}_rows"] = rows
        found[f"{folder.name}_bytes_a_row"] = sum(path.stat().st_size for path in files) / max(rows, 1)
    return found


def _sizes_of_hdf5(paths: list[Path], frames: int) -> dict[str, Any]:
    """Bytes a frame, and of each picture, clip and head that is kept; the rest a file."""
    import h5py

    stored, rows = Counter[str](), Counter[str]()
    for path in paths:
        with h5py.File(path) as file:
            for table, group in file.items():
                stored[table] += sum(column.id.get_storage_size() for column in group.values())
                rows[table] += len(next(iter(group.values())))
    a_frame = sum(stored[table] for table in ("detections", "tracks", "frames"))
    kept = {table: stored[table] for table in ("pictures", "clips", "morphology") if rows[table]}
    rest = sum(path.stat().st_size for path in paths) - a_frame - sum(kept.values())
    each = {f"h5_{table}_bytes_each": size / rows[table] for table, size in kept.items()}
    return {"h5_bytes_a_frame": a_frame / frames, **each, "h5_bytes_a_file": rest / len(paths)}


def multiply(results: Path, folder: Path, n: int, settings: str) -> list[Item]:
    """A finished batch of ``n`` recordings, copies of one, with these settings; gives what it was of."""
    mark = json.loads(next(p for p in (results / DONE).glob("*.json") if not p.name.startswith(".")).read_text())
    (folder / DONE).mkdir(parents=True)
    for name in mark["results"]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(results / "dataset" / "settings", folder / "dataset" / "settings")
    items = []
    for k in range(n):
        name = f"recording{k:07d}"
        made = {}
        for result, size in mark["results"].items():
            target = str(Path(result).with_stem(name))
            made[target] = size
            if result.endswith(".h5"):
                (folder / target).touch()  # of its name only: it is nobody's business here
                made[target] = 0
            else:
                shutil.copyfile(results / result, folder / target)
        items.append(Item(f"/archive/{name}.mp4", name, stamp=mark["stamp"], n_bytes=mark["n_bytes"]))
        own = mark | {"recording": name, "uri": items[-1].uri, "results": made, "columns": {}, "settings": settings}
        (folder / DONE / f"{name}.json").write_text(json.dumps(own, indent=1))
    return items


def measured(results: Path, n: int) -> dict[str, Any]:
    """What planning, going on and asking cost with ``n`` recordings."""
    import duckdb

    config, made = resolved(Config(), cluster=False, gpus=0), list[Plan]()
    with tempfile.TemporaryDirectory() as name:
        empty = open_store(f"{name}/empty", create=True)
        (job,) = make_plan([Item("simulator:default:1", "one")], empty, config).jobs
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        items = multiply(results, Path(name) / "many", n, job.settings)
        store = open_store(f"{name}/many")
        found: dict[str, Any] = {"plan_anew_s": seconds(lambda: made.append(make_plan(items, empty, config)))}
        found["read_marks_s"] = seconds(lambda: read_marks(store))
        found["go_on_s"] = seconds(lambda: made.append(make_plan(items, store, config)))
        found["memory_kb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        found["planned"], found["left_when_going_on"] = (len(plan.jobs) for plan in made)
        with duckdb.connect() as db:
            tables = f"{name}/many/dataset/kinematics"
            db.execute("SET threads = 2")
            query = "SELECT recording, median(vcl_px_s) FROM '{}' GROUP BY recording"
            one = f"{name}/one.parquet"
            found["query_files_s"] = seconds(lambda: db.execute(query.format(f"{tables}/*.parquet")).fetchall())
            pack = f"COPY (FROM '{tables}/*.parquet') TO '{one}' (FORMAT parquet)"
            found["pack_s"] = seconds(lambda: db.execute(pack))
            found["query_packed_s"] = seconds(lambda: db.execute(query.format(one)).fetchall())
            found["files_bytes"] = sum(p.stat().st_size for p in Path(tables).iterdir())
            found["packed_bytes"] = Path(one).stat().st_size
    return found


def main() -> None:
    """See the top of this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="?", help="folder of a finished batch")
    parser.add_argument("--recordings", type=int, default=10_000)
    arguments = parser.parse_args()
    if arguments.results is None:
        for table in (given, storage, computing, keeping, networks):
            print("\n".join(table(Archive())), end="\n\n")
    else:
        print(json.dumps(sizes(arguments.results) | measured(arguments.results, arguments.recordings), indent=2))


if __name__ == "__main__":
    main()
