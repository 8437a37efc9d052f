"""Kill workers, raylets and the batch itself at random moments: no finished recording may be lost, or done twice.

    python tools/stress_batch.py worker --times 20      processes of `casa batch` on this machine
    python tools/stress_batch.py driver --times 20      `casa batch` itself; it is started again and goes on
    python tools/stress_batch.py raylet --times 10      a node of a Ray cluster of two, which comes back
    python tools/stress_batch.py mixed --times 20       nodes, Ray's workers and the driver of such a cluster

A recording that has its mark before a kill must have the same mark, byte for byte, and the same files (inode and time)
ever after. When all are finished, tables must be equal byte for byte to those of a run that nobody disturbed, and the
same command must find nothing to do, and leave nothing half written. Prints one JSON object; exit code 1 where anything
was lost, repeated or different.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

_LIMIT_S = 900.0


def archive(folder: Path, n: int, frames: int) -> Path:
    from casa.simulate.layout import write_visem_layout
    from casa.simulate.scene import simulate

    for seed in range(n):
        write_visem_layout(simulate("default", seed, frames), folder)
    return folder


def tables(output: Path) -> dict[str, bytes]:
    folder = output / "dataset"
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.parquet"))}


def finished(output: Path) -> dict[str, tuple[Any, ...]]:
    """By mark: its bytes, and inode and time of each of its results (None: gone)."""
    found = {}
    for path in (output / "_casa" / "done").glob("[!.]*.json"):
        data = path.read_bytes()
        results = []
        for name in sorted(json.loads(data)["results"]):
            with suppress(FileNotFoundError):
                told = (output / name).stat()
                results.append((name, told.st_ino, told.st_mtime_ns))
                continue
            results.append((name, None))
        found[path.name] = (data, tuple(results))
    return found


def processes_below(pid: int) -> list[tuple[int, str]]:
    """(pid, command line) of all descendants."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            for child in map(int, task.read_text().split()):
                with suppress(OSError):
                    line = Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    found.append((child, line))
                    found += processes_below(child)
    return found


class Stress:
    """One batch after the other, disturbed, until there were enough kills."""

    def __init__(self, of: str, folder: Path, recordings: int, frames: int, seed: int) -> None:
        self.of, self.folder = of, folder
        self.rng = random.Random(seed)
        self.archive = archive(folder / "archive", recordings, frames)
        self.n = recordings
        self.kills: Counter[str] = Counter()
        self.lost = self.repeated = self.different = self.retried = self.rounds = self.kept = 0
        self.pace_s = 0.0
        self.driver: subprocess.Popen[str] | None = None
        self.cluster: Any = None
        self.node: Any = None

    def command(self, output: Path) -> list[str]:
        """The batch."""
        base = [sys.executable, "-m", "casa", "batch", str(self.archive), "-o", str(output), "--retries", "1000"]
        base += ["--calibration", "simulator", "--json"]
        return base if self.cluster is None else [*base, "--cluster", self.cluster.address]

    def start_cluster(self) -> None:
        """Two raylets of one core each."""
        from casa.batch.ray_cluster import import_ray
        from casa.batch.ray_node import RayNode

        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        import_ray()
        (self.folder / "r").mkdir()
        self.cluster = RayNode(self.folder / "r", 1)
        self.node = RayNode(self.folder / "r", 1, self.cluster.address)

    def start(self, output: Path) -> subprocess.Popen[str]:
        """The batch as a process; ``close`` ends the last one."""
        driver = subprocess.Popen(self.command(output), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.driver = driver
        return driver

    def close(self) -> None:
        """End what is still running."""
        if self.driver is not None:
            self.driver.kill()
            self.driver.wait()
        for node in (self.node, self.cluster):
            if node is not None:
                node.close()

    def reference(self) -> dict[str, bytes]:
        """The tables of a run that nobody disturbs; kills come within the time that it takes."""
        began = time.monotonic()
        process = self.start(self.folder / "reference")
        out, err = process.communicate(timeout=_LIMIT_S)
        self.pace_s = time.monotonic() - began
        if process.returncode:
            raise SystemExit(f"the undisturbed run failed: {err}")
        assert json.loads(out)["analysed"] == self.n
        return tables(self.folder / "reference")

    def kill(self, driver: subprocess.Popen[str]) -> None:
        """Kill one thing of the kind asked for; nothing where there is none just now."""
        kind = self.rng.choice(["raylet", "ray worker", "driver"]) if self.of == "mixed" else self.of
        if kind == "driver":
            driver.kill()
            driver.communicate()
        elif kind == "raylet":
            raylets = [pid for pid, line in processes_below(self.node.process.pid) if "raylet/raylet" in line]
            for pid in raylets:
                os.kill(pid, signal.SIGKILL)
            self.node.close()
            self.node = type(self.node)(self.folder / "r", 1, self.cluster.address)
        else:
            below, name = (driver.pid, "casa.batch.worker") if kind == "worker" else (os.getpid(), "ray::")
            found = [pid for pid, line in processes_below(below) if name in line]
            if not found:
                return
            with suppress(ProcessLookupError):
                os.kill(self.rng.choice(found), signal.SIGKILL)
        self.kills[kind] += 1

    def check(self, output: Path, before: dict[str, tuple[Any, ...]]) -> dict[str, tuple[Any, ...]]:
        """Count what was finished before and is gone, or was done again; gives what is finished now."""
        now = finished(output)
        for name, (data, results) in before.items():
            if name not in now or any(len(result) == 2 for result in now[name][1]):
                self.lost += 1
            elif now[name] != (data, results):
                self.repeated += 1
        return now

    def round(self, reference: dict[str, bytes], times: int) -> None:
        """One archive from nothing to its end."""
        output = self.folder / f"out{self.rounds}"
        driver, known = self.start(output), {}
        deadline = time.monotonic() + _LIMIT_S
        while True:
            # a batch that is begun again, or a worker, needs some seconds before it finishes anything
            until = time.monotonic() + self.rng.uniform(0.5, self.pace_s)
            while time.monotonic() < until and driver.poll() is None:
                time.sleep(0.02)
            known = self.check(output, known)
            if driver.returncode == 0:
                break
            if time.monotonic() > deadline:
                raise SystemExit(f"not finished in {_LIMIT_S:.0f} s: {len(known)} of {self.n}")
            if driver.poll() is None and sum(self.kills.values()) < times:
                self.kept += len(known)
                self.kill(driver)
            if driver.poll() is not None and driver.returncode != 0:
                if driver.stdout and not driver.stdout.closed:  # it died with what it was attached to
                    print(driver.communicate()[1][-500:], file=sys.stderr)
                driver = self.start(output)
        out, err = driver.communicate()
        if not out.startswith("{"):
            raise SystemExit(f"the batch said other than its result: {out[:500]} {err[-500:]}")
        said = json.loads(out)
        self.retried += said["retried"]
        if said["recordings"] != self.n or said["failed"] or len(known) != self.n:
            self.lost += 1
        if tables(output) != reference:
            self.different += 1
        again = json.loads(self.start(output).communicate(timeout=_LIMIT_S)[0])
        known = self.check(output, known)
        if again["analysed"] or again["finished_before"] != self.n or list(output.rglob("*.tmp")):
            self.repeated += 1
        shutil.rmtree(output)
        self.rounds += 1

    def result(self) -> dict[str, Any]:
        """What is printed."""
        return {
            "of": self.of, "rounds": self.rounds, "recordings_a_round": self.n, "kills": dict(self.kills),
            "finished_before_a_kill": self.kept, "lost": self.lost, "repeated": self.repeated,
            "rounds_with_other_tables": self.different, "attempts_given_out_again": self.retried,
        }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("of", choices=["worker", "driver", "raylet", "mixed"])
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--recordings", type=int, default=12)
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # whoever ends this ends what it started
    with tempfile.TemporaryDirectory(prefix="stress-") as name:
        stress = Stress(given.of, Path(name), given.recordings, given.frames, given.seed)
        try:
            reference = stress.reference()
            if given.of in ("raylet", "mixed"):
                stress.start_cluster()
            while sum(stress.kills.values()) < given.times:
                stress.round(reference, given.times)
        finally:
            stress.close()
    result = stress.result()
    print(json.dumps(result, indent=2))
    sys.exit(1 if stress.lost or stress.repeated or stress.different else 0)


if __name__ == "__main__":
    main()
