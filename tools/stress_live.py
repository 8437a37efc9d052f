"""What a live session stands: kills, frozen and many viewers, malformed messages, long runs. One JSON object a run.
What follows ``--`` goes to ``casa live``.

python tools/stress_live.py kills --of recorder --times 20
python tools/stress_live.py kills --of engine --times 20
xvfb-run python tools/stress_live.py kills --of viewer --times 20
python tools/stress_live.py viewers --seconds 60
python tools/stress_live.py session --seconds 600 -- --view
python tools/stress_live.py soak --frames 1000000
python tools/stress_live.py grading
python tools/stress_live.py fuzz --messages 1000000
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from casa.bus import messages as m
from casa.bus.subscriber import ControlClient, Subscriber
from casa.errors import CasaError
from casa.record import Recording, recover

_VIEWER = """
import sys
from casa.bus.subscriber import Subscriber
with Subscriber(sys.argv[1]) as s:
    n = 0
    while True:
        s.wait(1.0); s.events()
        while (view := s.view()) is not None:
            n += 1
            if n == 1: print("seen", flush=True)
"""


class Session:
    """``casa live`` as a process."""

    def __init__(self, folder: Path, *more: str) -> None:
        self.endpoint = f"ipc://{folder}/bus"
        self.output = folder / "run.h5"
        self._log = (folder / "stderr.txt").open("w+")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "casa", "live", "--endpoint", self.endpoint, "-o", str(self.output), "--json",
             *more],
            stdout=subprocess.PIPE, stderr=self._log, text=True, cwd=folder,
        )  # fmt: skip

    def status(self) -> m.StatusReply | None:
        """What the engine says of itself; None where it does not answer."""
        with suppress(CasaError), ControlClient(self.endpoint) as control:
            reply = control.request(m.GetStatus(), timeout_s=2)
            return reply if isinstance(reply, m.StatusReply) else None
        return None

    def wait_running(self, n_frames: int = 20) -> m.Metrics:
        """Wait until so many frames are analysed."""
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            found = self.status()
            if found is not None and found.metrics.account.processed >= n_frames:
                return found.metrics
            if self.process.poll() is not None:
                raise SystemExit(f"the session ended before it ran: {self.said()}")
            time.sleep(0.1)
        raise SystemExit("the session did not run within two minutes")

    def pid(self, name: str) -> int:
        """The process number of one of the engine's processes; 0 where it does not run."""
        found = self.status() or self.status()
        return next((p.pid for p in found.metrics.processes if p.name == name), 0) if found is not None else 0

    def stop(self, timeout_s: float = 300) -> dict[str, Any]:
        """End it as Ctrl-C does."""
        self.process.send_signal(signal.SIGINT)
        return self.result(timeout_s)

    def result(self, timeout_s: float) -> dict[str, Any]:
        """What it prints at its end."""
        out, _ = self.process.communicate(timeout=timeout_s)
        return json.loads(out) if out.strip() else {"error": self.said()}

    def said(self) -> str:
        """The end of its standard error."""
        self._log.seek(0)
        return self._log.read()[-2000:]


def check(path: Path) -> dict[str, Any]:
    """Whether a recording's account balances and has a row a frame."""
    if not path.exists():
        return {
            "status": "missing",
            "balanced": False,
            "captured": 0,
            "rows": 0,
            "every_frame_once": False,
            "missing": 0,
            "last_t_ns": 0,
        }
    with Recording(path) as recording:
        account, frames = recording.account, recording.frames()["frame"]
        return {
            "status": recording.status,
            "balanced": account.balanced,
            "captured": account.captured,
            "rows": len(frames),
            "every_frame_once": frames.tolist() == list(range(len(frames))),
            "missing": int(frames[-1]) + 1 - len(set(frames.tolist())) if len(frames) else 0,
            "last_t_ns": int(recording.frames()["t_ns"][-1]) if len(frames) else 0,
        }


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def kill_recorder(times: int, rng: random.Random, more: list[str]) -> dict[str, Any]:
    """One session, its recorder killed at random moments."""
    with tempfile.TemporaryDirectory() as name:
        session = Session(Path(name), *more)
        session.wait_running()
        killed = 0
        while killed < times:
            pid = session.pid("recorder")
            if pid and alive(pid):
                time.sleep(rng.uniform(0, 2.5))
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    killed += 1
            time.sleep(0.1)
        result = session.stop()
        return {"kills": killed, "result": result, "recording": check(session.output)}


def kill_engine(times: int, rng: random.Random, more: list[str]) -> dict[str, Any]:
    """A session each, killed at a random moment; what it had captured half a second before is looked for."""
    runs = []
    for _ in range(times):
        with tempfile.TemporaryDirectory() as name:
            session = Session(Path(name), *more)
            session.wait_running(5)
            time.sleep(rng.uniform(0, 4))
            while not (recorder := session.pid("recorder")):
                time.sleep(0.05)
            with Subscriber(session.endpoint, events=False) as subscriber:
                subscriber.wait(2)
                subscriber.wait(rng.uniform(0, 0.3))
                view = subscriber.view()
            session.process.kill()
            session.process.communicate()
            deadline = time.monotonic() + 60
            while alive(recorder) and time.monotonic() < deadline:
                time.sleep(0.05)
            orphan, leaked = alive(recorder), (Path(name) / "bus").exists()
            if (Path(name) / "run.h5.journal").exists():
                recover(session.output)
            found = check(session.output)
            seen = view.t_ns if view is not None else 0
            runs.append(
                found | {"orphan": orphan, "leaked_sockets": leaked, "lost_s": max(0, seen - found["last_t_ns"]) / 1e9}
            )
    return {
        "kills": len(runs),
        "balanced": sum(run["balanced"] for run in runs),
        "orphans": sum(run["orphan"] for run in runs),
        "leaked_sockets": sum(run["leaked_sockets"] for run in runs),
        "most_frames_under_way_lost": max(run["missing"] for run in runs),
        "most_lost_s": max(run["lost_s"] for run in runs),
        "runs": runs,
    }


def kill_viewer(times: int, rng: random.Random, more: list[str]) -> dict[str, Any]:
    """One session; the real window is opened and killed at random moments, some while it is still starting."""
    with tempfile.TemporaryDirectory() as name:
        session = Session(Path(name), *more)
        before = session.wait_running()
        shown = 0
        for _ in range(times):
            window = subprocess.Popen(
                [sys.executable, "-m", "casa", "view", session.endpoint],
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=name,
            )  # fmt: skip
            deadline = time.monotonic() + rng.uniform(0.5, 6)
            seen = False
            while time.monotonic() < deadline:
                time.sleep(0.25)
                seen = seen or ((found := session.status()) is not None and found.metrics.viewers > 0)
            shown += seen
            window.kill()
            window.communicate()
        after = session.status()
        result = session.stop()
        return {
            "kills": times,
            "killed_while_it_showed": shown,
            "captured": after.metrics.account.captured - before.account.captured if after else None,
            "dropped": after.metrics.account.dropped - before.account.dropped if after else None,
            "result": result,
            "recording": check(session.output),
        }


def viewers(seconds: float, more: list[str]) -> dict[str, Any]:
    """Alone, five viewers, all of them frozen, all of them killed, and a new one: the engine's figures of each."""
    phases: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        session = Session(Path(name), *more)
        before = session.wait_running()
        looking: list[subprocess.Popen[str]] = []

        def phase(label: str) -> None:
            nonlocal before
            time.sleep(seconds)
            found = session.status()
            if found is None:
                phases[label] = None
                return
            now = found.metrics
            phases[label] = {
                "captured": now.account.captured - before.account.captured,
                "processed": now.account.processed - before.account.processed,
                "dropped": now.account.dropped - before.account.dropped,
                "latency_p50_ms": now.latency_p50_ms,
                "latency_p99_ms": now.latency_p99_ms,
                "viewers": now.viewers,
                "recorder_queued": [c.queued for c in now.clients],
            }
            before = now

        def look() -> None:
            process = subprocess.Popen(
                [sys.executable, "-c", _VIEWER, session.endpoint], stdout=subprocess.PIPE, text=True
            )
            assert process.stdout is not None
            process.stdout.readline()
            looking.append(process)

        phase("alone")
        look()
        phase("one_viewer")
        looking[0].send_signal(signal.SIGSTOP)
        phase("frozen_viewer")
        looking[0].send_signal(signal.SIGCONT)
        for _ in range(4):
            look()
        phase("five_viewers")
        for process in looking:
            process.kill()
            process.communicate()
        phase("viewers_killed")
        look()
        phase("restarted_viewer")
        looking[-1].kill()
        looking[-1].communicate()
        return {"phases": phases, "result": session.stop(), "recording": check(session.output)}


def long_session(seconds: float, more: list[str]) -> dict[str, Any]:
    """A session of that length; its figures, and the engine's memory and the machine's load as it went."""
    with tempfile.TemporaryDirectory() as name:
        session = Session(Path(name), "--duration", str(seconds), *more)
        session.wait_running()
        memory, of_recorder, load, dropped = [], [], [], []
        recorder = session.pid("recorder")
        while session.process.poll() is None:
            time.sleep(min(5.0, seconds / 10))
            with suppress(OSError, ValueError, IndexError):
                mib, recorder_mib = rss_mib(session.process.pid), rss_mib(recorder) if recorder else 0.0
                if mib > 0 and (found := session.status()) is not None:
                    memory.append(round(mib, 1))
                    of_recorder.append(round(recorder_mib, 1))
                    dropped.append(found.metrics.account.dropped)
                    load.append(os.getloadavg()[0])
        result = session.result(600)
        tenth = max(len(memory) // 10, 1)
        return {
            "result": result,
            "memory_mib_by_tenths": memory[::tenth],
            "recorder_mib_by_tenths": of_recorder[::tenth],
            "dropped_by_tenths": dropped[::tenth],
            "load_by_tenths": load[::tenth],
            "recording": check(session.output),
        }


#: A camera that gives more frames than any machine analyses, drawn beforehand: drawing takes nothing from the rest.
_SATURATED = """
camera: {{size: [{width}, {height}], fps_hz: {fps}, microscope: {{ring_frames: 64}}}}
graph:
  runner: threaded
  edges:
    detect: {{policy: latest, depth: 8}}
    publish: {{policy: block, depth: 256}}
    publish_detections: {{policy: block, depth: 256}}
record: {{thumbnail_every_s: 30}}
live: {{video: none}}
"""
_SOAK_FPS = 800


def soak(n_frames: int, more: list[str]) -> dict[str, Any]:
    """``long_session`` of so many small frames, as fast as they can be analysed; the rest is dropped, and counted."""
    with tempfile.TemporaryDirectory() as name:
        config = Path(name) / "saturated.yaml"
        config.write_text(_SATURATED.format(width=160, height=120, fps=_SOAK_FPS))
        return long_session(n_frames / _SOAK_FPS, ["--config", str(config), *more])


def grading(turns: int, more: list[str]) -> dict[str, Any]:
    """A session with more frames than it can analyse; its grader is frozen and let go on by turns (off on on off):
    frames and clips a second of each turn of three seconds.
    """
    with tempfile.TemporaryDirectory() as name:
        config = Path(name) / "saturated.yaml"
        config.write_text(_SATURATED.format(width=640, height=480, fps=400))
        session = Session(Path(name), "--config", str(config), "--grade", *more)
        session.wait_running(200)
        while not (grader := session.pid("grader-1")):
            time.sleep(0.1)
        rates: dict[str, list[tuple[float, float]]] = {"off": [], "on": []}
        try:
            for turn in range(turns):
                kind = ("off", "on", "on", "off")[turn % 4]
                os.kill(grader, signal.SIGSTOP if kind == "off" else signal.SIGCONT)
                time.sleep(0.5)
                before, began = session.wait_running(), time.monotonic()
                time.sleep(3)
                now, took_s = session.wait_running(), time.monotonic() - began
                assert before.grading is not None
                assert now.grading is not None
                frames = (now.account.processed - before.account.processed) / took_s
                rates[kind].append((frames, (now.grading.graded - before.grading.graded) / took_s))
                busy = now.grading.busy_share
        finally:
            os.kill(grader, signal.SIGCONT)
        result = session.stop()
    of = {kind: statistics.median(frames for frames, _ in found) for kind, found in rates.items()}
    return {"rates": rates, "median_frames_s": of, "share_lost": 1 - of["on"] / of["off"], "busy_share": busy,
            "result": result}  # fmt: skip


def rss_mib(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def fuzz(n: int, seed: int) -> dict[str, Any]:
    """Malformed messages to the decoder: damaged ones of every type, random ones, well-formed ones with wrong parts."""
    import msgspec

    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))
    from bus_messages import every_message  # type: ignore[import-not-found]

    from casa.bus.codec import Decoder, encode

    rng = random.Random(seed)
    whole = [encode(message, "a" * 32) for message in every_message()]
    small = [data for data in whole if len(data) < 20_000]
    trees = [msgspec.msgpack.decode(data) for data in small]
    odd = [None, True, -1, 2**63, -(2**63), 1e300, float("nan"), "", "x" * 600, b"", b"\0" * 9, [], [[]], {}, {"": 0}]
    decoder = Decoder()
    began, memory = time.monotonic(), []
    for number in range(n):
        kind = rng.random()
        if kind < 0.5:
            data = bytearray(rng.choice(small))
            for _ in range(rng.randint(1, 4)):
                at = rng.randrange(len(data) + 1)
                what = rng.random()
                if what < 0.6:
                    data[at : at + 1] = bytes([rng.randrange(256)])
                elif what < 0.8:
                    del data[at : at + rng.randint(1, 40)]
                else:
                    data[at:at] = rng.randbytes(rng.randint(1, 20))
        elif kind < 0.75:
            data = rng.randbytes(rng.randint(0, 300))
        else:
            tree = dict(rng.choice(trees))
            body = dict(tree["body"])
            body[rng.choice(sorted(body))] = rng.choice(odd)
            tree["body"] = body
            data = msgspec.msgpack.encode(tree)
        decoder.decode(bytes(data))
        if number % max(n // 10, 1) == 0:
            memory.append(round(rss_mib(os.getpid()), 1))
    return {
        "messages": n,
        "refused": decoder.bad,
        "still_messages": decoder.good,
        "each_counted": decoder.bad + decoder.good == n,
        "seconds": time.monotonic() - began,
        "memory_mib": memory,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["kills", "viewers", "session", "soak", "grading", "fuzz"])
    parser.add_argument("--of", choices=["recorder", "engine", "viewer"], default="recorder")
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--frames", type=int, default=1_000_000)
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--config", default="live")
    own, _, further = f"{' '.join(sys.argv[1:])} ".partition(" -- ")
    given = parser.parse_args(own.split())
    more = ["--config", given.config, *further.split()]
    rng = random.Random(given.seed)
    if given.what == "kills":
        kill = {"recorder": kill_recorder, "engine": kill_engine, "viewer": kill_viewer}[given.of]
        found = kill(given.times, rng, more)
    elif given.what == "viewers":
        found = viewers(given.seconds, more)
    elif given.what == "soak":
        found = soak(given.frames, further.split())
    elif given.what == "grading":
        found = grading(given.times, further.split())
    elif given.what == "session":
        found = long_session(given.seconds, more)
    else:
        found = fuzz(given.messages, given.seed)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
