"""A Ray node of this machine alone: on loopback, and gone with the process that started it, however that ends.

As a program (``python -m casa.batch.ray_node start …``) it is ``ray start``, but for three things: it follows its
parent, it stays on loopback where it is told to, and it has patience. Ray's raylet gives its agent 15 s to say on which
port it listens, and dies where a busy machine takes longer; here the port is chosen beforehand, and said at once.
"""

from __future__ import annotations

import inspect
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from casa.errors import CasaError
from casa.lifeline import child_environment, follow_parent

#: How long a node may take to start, which on a busy machine is long, and to end.
START_TIMEOUT_S = 180.0
_END_TIMEOUT_S = 30.0
_OBJECT_STORE_BYTES = 100 << 20  # only jobs and marks go through it
_PORTS = ("node-manager", "object-manager", "dashboard-agent-grpc", "dashboard-agent-listen", "runtime-env-agent",
          "metrics-export")  # fmt: skip


class RayNode:
    """A raylet on loopback, and without ``head`` a cluster of its own; it ends with this process, however that ends.

    Parameters
    ----------
    folder : for its files; names of sockets are made in it, so its own has to be short.
    cpus : recordings with a core each that it has room for.
    head : address of the cluster to join.

    Raises
    ------
    CasaError : it does not start.
    """

    def __init__(self, folder: Path, cpus: int, head: str | None = None) -> None:
        log = folder / f"start-{time.monotonic_ns()}.log"
        port, *others = _free_ports(7)
        command = [sys.executable, "-m", "casa.batch.ray_node", "start", "--block", "--disable-usage-stats",
                   "--include-log-monitor=false", "--node-ip-address=127.0.0.1", f"--num-cpus={cpus}",
                   f"--object-store-memory={_OBJECT_STORE_BYTES}",
                   *(f"--{name}-port={number}" for name, number in zip(_PORTS, others, strict=True))]  # fmt: skip
        if head is None:
            command += ["--head", f"--port={port}", "--include-dashboard=false", f"--temp-dir={folder}"]
        else:
            command += [f"--address={head}"]
        self.address = f"127.0.0.1:{port}" if head is None else head
        with log.open("wb") as stream:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                env=child_environment(),
                process_group=None if sys.platform == "win32" else 0,
            )
        until = time.monotonic() + START_TIMEOUT_S
        while "Ray runtime started" not in (said := log.read_text(errors="replace")):
            if self.process.poll() is not None or time.monotonic() > until:
                self.close()
                lines = [line for line in said.splitlines() if line.strip()]
                raise CasaError(
                    f"--cluster local: Ray does not start ({lines[-1][:200] if lines else 'it says nothing'})"
                )
            time.sleep(0.1)

    def close(self) -> None:
        """End its processes."""
        self.process.terminate()
        try:
            self.process.wait(_END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if sys.platform != "win32":
            with suppress(ProcessLookupError):  # what it had only begun to start
                os.killpg(self.process.pid, signal.SIGKILL)


def _free_ports(n: int) -> list[int]:
    """Ports of loopback that nobody has just now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(n)]
        return [one.getsockname()[1] for one in sockets]


def stay_on_loopback() -> None:
    """Keep Ray from making of 127.0.0.1 the address by which this machine is seen from outside."""
    from ray._private import services

    services.resolve_ip_for_localhost = lambda host: host


def main() -> None:
    """``ray start`` with patience, and an end."""
    follow_parent()
    from ray._private import services
    from ray._raylet import DASHBOARD_AGENT_LISTEN_PORT_NAME, persist_port  # pyright: ignore[reportAttributeAccessIssue]
    from ray.scripts import scripts

    start = services.start_raylet

    def start_raylet(*args: Any, **named: Any) -> Any:
        given = inspect.signature(start).bind(*args, **named).arguments
        port = given["dashboard_agent_listen_port"]
        persist_port(given["session_dir"], given["node_id"], DASHBOARD_AGENT_LISTEN_PORT_NAME, port)
        return start(*args, **named)

    services.start_raylet = start_raylet
    stay_on_loopback()
    scripts.main()


if __name__ == "__main__":
    main()
