"""A pool on a Ray cluster: one that runs, by its address, or one of this machine's own for the length of a batch.

A recording is a task; Ray finds it a machine with the cores, and the part of a GPU, that it needs. What was under way
on a machine or in a worker that died is told as failed, and the batch gives it out again.
"""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from casa.batch.plan import Job
from casa.batch.pool import Event
from casa.batch.ray_node import START_TIMEOUT_S, RayNode, stay_on_loopback
from casa.batch.scratch import scratch
from casa.batch.work import Outcome, attempt
from casa.errors import CasaError, InputError

#: An address that does not answer for so long, or a Ray there that does not, is taken for unreachable.
CONNECT_TIMEOUT_S = 5.0
JOIN_TIMEOUT_S = 60.0
#: A cluster in which no machine could do the work for so long is given up.
_GIVE_UP_S = 60.0
_LOOK_EVERY_S = 2.0
#: Names of Unix sockets, which Ray makes below its folder, have at most 107 bytes.
_MAX_PARENT = 16
_PROBE = (
    "import sys, ray; from casa.batch.ray_node import stay_on_loopback; sys.argv[2] and stay_on_loopback();"
    " ray.init(address=sys.argv[1], log_to_driver=False, logging_level='ERROR', _skip_env_hook=True);"
    " print('reached', flush=True); import os; os._exit(0)"
)


def import_ray() -> Any:
    """The ``ray`` package, which reports nothing to anybody. Raises InputError where it is not installed."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_worker_niceness", "0")  # as processes without Ray; else nodes begun here give way to all
    os.environ.setdefault("RAY_raylet_start_wait_time_s", f"{START_TIMEOUT_S:.0f}")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
        from ray._private import worker
    except ImportError as error:
        raise InputError(
            "--cluster: Ray is not installed; install casa-engine[cluster], or leave --cluster out to use this machine"
        ) from error
    worker.print_to_stdstream = _tell_error  # whatever else is asked for, Ray prints these to standard output
    return ray


def _tell_error(data: dict[str, Any], **_: Any) -> None:
    """An error of the cluster, such as a machine's death, as one line to standard error."""
    said = " ".join(" ".join(data["lines"]).split())
    print(f"casa: warning: the cluster says: {said[:200]}", file=sys.stderr, flush=True)


def do_job(data: dict[str, Any]) -> dict[str, Any]:
    """The task: a job's fields in, its outcome's out."""
    return asdict(attempt(Job.of(data)))


class RayPool:
    """Tasks on a Ray cluster.

    Parameters
    ----------
    address : ``local``, ``auto`` (the cluster that runs on this machine), or HOST:PORT of one that this machine is of.
    workers : recordings under way at most; None: as many as the cluster has room for.
    threads : cores for each.
    gpus : part of a GPU for each, 0 for none.

    Raises
    ------
    InputError : Ray is missing, or the cluster can never give a recording what it needs.
    CasaError : the cluster cannot be reached, or started.
    """

    def __init__(self, address: str, workers: int | None = None, threads: int = 1, gpus: float = 0.0) -> None:
        if address == "local":  # nobody else on this machine is to use it; Ray reads this when it is imported
            os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        self._ray = import_ray()
        self._workers, self._threads, self._gpus = workers, threads, gpus
        self._running: dict[Any, str] = {}
        self._uris: dict[str, str] = {}
        self._slots, self._looked_at, self._room_at = 0, 0.0, time.monotonic()
        with ExitStack() as stack:
            if address == "local":
                self._start_here(stack)
            else:
                self._join(address)
            stack.callback(self._ray.shutdown)
            if not self.slots:
                needs = f"{threads} core{'s' * (threads > 1)}" + (f" and {gpus:g} of a GPU" if gpus else "")
                raise InputError(f"--cluster {address}: none of its machines has {needs} for a recording")
            self._task = self._ray.remote(
                num_cpus=threads, num_gpus=gpus, max_retries=0, scheduling_strategy="SPREAD"
            )(do_job)  # fmt: skip
            self._stack = stack.pop_all()

    def _start_here(self, stack: ExitStack) -> None:
        """A cluster of this machine alone, on loopback, whose files and processes go with this one."""
        parent = Path(tempfile.gettempdir())
        if len(str(parent)) > _MAX_PARENT and Path("/tmp").is_dir():
            parent = Path("/tmp")
        folder = stack.enter_context(scratch("casa-ray-", parent))
        node = RayNode(folder, (self._workers or os.cpu_count() or 1) * self._threads)
        stack.callback(node.close)
        stay_on_loopback()
        self._init(node.address, "local")

    def _join(self, address: str) -> None:
        if _check_reachable(address):
            stay_on_loopback()
        self._init(address, address)

    def _init(self, address: str, said: str) -> None:
        try:
            self._ray.init(address=address, log_to_driver=False, logging_level="ERROR")
        except Exception as error:  # Ray raises whatever befell it
            raise CasaError(f"--cluster {said}: cannot be joined ({_said(error)})") from error

    @property
    def slots(self) -> int:
        """How many recordings the machines that are alive have room for."""
        now = time.monotonic()
        if now - self._looked_at >= _LOOK_EVERY_S:
            alive = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
            self._slots = sum(self._room(resources) for resources in alive)
            self._looked_at = now
            if self._slots:
                self._room_at = now
        return self._slots if self._workers is None else min(self._slots, self._workers)

    def _room(self, resources: dict[str, float]) -> int:
        by_core = int(resources.get("CPU", 0) / self._threads)
        return min(by_core, int(resources.get("GPU", 0) / self._gpus + 1e-9)) if self._gpus else by_core

    def start(self, job: Job) -> None:
        """Hand a recording to the cluster."""
        self._running[self._task.remote(asdict(job))] = job.recording
        self._uris[job.recording] = job.item.uri

    def poll(self, timeout_s: float) -> list[Event]:
        """The recordings that have ended since. Raises CasaError where the cluster has had no machine for long."""
        if not self._running:
            time.sleep(timeout_s)
        ready, _ = self._ray.wait(list(self._running), num_returns=1, timeout=timeout_s) if self._running else ([], [])
        if not self.slots and time.monotonic() - self._room_at > _GIVE_UP_S:
            raise CasaError(
                f"the cluster has had no machine for a recording for {_GIVE_UP_S:.0f} s; do the same again later"
            )
        return [self._event(task) for task in ready]

    def _event(self, task: Any) -> Event:
        recording = self._running.pop(task)
        uri = self._uris.pop(recording)
        try:
            outcome = Outcome(**self._ray.get(task))
        except self._ray.exceptions.RayError as error:  # its worker, or the machine that was on, has died
            outcome = Outcome(reason=f"{uri}: {type(error).__name__}: {_said(error)}")
        return Event(recording, outcome=outcome)

    def close(self) -> None:
        """Leave the cluster: what is under way is broken off; one of this machine's own ends."""
        self._stack.close()


def _check_reachable(address: str) -> bool:
    """Whether the cluster keeps to loopback.

    Raises InputError or CasaError within seconds where no Ray answers; ``ray.init`` itself may wait for ever.
    """
    loopback = False
    if address != "auto":
        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal() or "/" in host:
            raise InputError(f"--cluster {address}: expected local, auto or HOST:PORT of the cluster's head")
        if (error := _unreachable(host, int(port))) is not None:
            raise CasaError(
                f"--cluster {address}: no cluster can be reached there ({_said(error)}); "
                "is `ray start --head` running, and the port right?"
            )
        from ray._private import services

        loopback = _unreachable(services.resolve_ip_for_localhost(host), int(port)) is not None
    try:
        tried = subprocess.run(
            [sys.executable, "-c", _PROBE, address, "stay" * loopback],
            capture_output=True, text=True, timeout=JOIN_TIMEOUT_S,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise CasaError(
            f"--cluster {address}: what is there does not answer as Ray in {JOIN_TIMEOUT_S:.0f} s"
        ) from None
    if "reached" not in tried.stdout:
        lines = [line for line in tried.stderr.splitlines() if line.strip()]
        why = lines[-1].strip()[:200] if lines else "no reason given"
        raise CasaError(f"--cluster {address}: cannot be joined ({why})")
    return loopback


def _unreachable(host: str, port: int) -> Exception | None:
    """Why nobody can be reached there; None where somebody can."""
    try:
        socket.create_connection((host, port), CONNECT_TIMEOUT_S).close()
    except (OSError, OverflowError) as error:
        return error
    return None


def _said(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
