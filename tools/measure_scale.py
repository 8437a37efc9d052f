"""What a large archive costs besides the analysis: planning it, resuming it, and asking its data set.

    python tools/measure_scale.py results --recordings 10000

Makes so many marks, and copies of one recording's tables, from a finished batch into a temporary folder; prints one
JSON object of seconds, bytes and memory.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb

from casa.batch.inputs import Item
from casa.batch.plan import DONE, make_plan, read_marks
from casa.batch.settings import resolved
from casa.batch.store import open_store
from casa.config import Config


def seconds(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return round(time.perf_counter() - began, 3)


def multiply(results: Path, folder: Path, n: int) -> list[Item]:
    """A finished batch of ``n`` recordings, copies of one; gives what it was of."""
    mark = json.loads(next((results / DONE).glob("*.json")).read_text())
    (folder / DONE).mkdir(parents=True)
    for name in mark["results"]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
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
        items.append(Item(f"/archive/{name}.mp4", name, mark["stamp"], mark["n_bytes"]))
        own = mark | {"recording": name, "uri": items[-1].uri, "results": made, "columns": {}}
        (folder / DONE / f"{name}.json").write_text(json.dumps(own, indent=1))
    return items


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="folder of a finished batch")
    parser.add_argument("--recordings", type=int, default=10_000)
    given = parser.parse_args()
    config = resolved(Config(), cluster=False, gpus=0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "many"
        items = multiply(given.results, folder, given.recordings)
        store = open_store(str(folder))
        found: dict[str, Any] = {"recordings": len(items)}
        found["mark_bytes"] = (folder / DONE / "recording0000000.json").stat().st_size
        found["read_marks_s"] = seconds(lambda: read_marks(store))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        found["plan_anew_s"] = seconds(lambda: make_plan(items, open_store(f"{name}/empty", create=True), config))
        found["plan_anew_memory_kb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        with duckdb.connect() as db:
            tables = f"{folder}/dataset"
            query = f"SELECT recording, median(vcl_px_s) FROM '{tables}/kinematics/*.parquet' GROUP BY recording"
            db.execute("SET threads = 2")
            found["query_files_s"] = seconds(lambda: db.execute(query).fetchall())
            one = f"{name}/one.parquet"
            found["pack_s"] = seconds(
                lambda: db.execute(f"COPY (FROM '{tables}/kinematics/*.parquet') TO '{one}' (FORMAT parquet)")
            )
            packed = f"SELECT recording, median(vcl_px_s) FROM '{one}' GROUP BY recording"
            found["query_packed_s"] = seconds(lambda: db.execute(packed).fetchall())
            found["files_bytes"] = sum(p.stat().st_size for p in Path(tables, "kinematics").iterdir())
            found["packed_bytes"] = Path(one).stat().st_size
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
