"""Claims about `casa batch --cluster`: a cluster of two raylets on loopback, and clusters that are not there."""

from __future__ import annotations

import json
import secrets
import shutil
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from batches import marks_in, tables_in, write_archive
from running import casa

from casa.batch.inputs import find
from casa.batch.local import LocalPool
from casa.batch.plan import make_plan
from casa.batch.run import run
from casa.batch.settings import resolved
from casa.batch.store import open_store
from casa.config import load_config
from casa.errors import CasaError, InputError

pytest.importorskip("ray", reason="Ray is not installed (casa-engine[cluster])")


@pytest.fixture
def cluster(monkeypatch) -> Iterator[str]:
    """The address of two raylets of a core each, whose files lie where the names of sockets stay short."""
    from casa.batch.ray_cluster import import_ray
    from casa.batch.ray_node import RayNode

    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
    import_ray()
    folder = Path(tempfile.mkdtemp(prefix="r-"))
    nodes = []
    try:
        nodes.append(RayNode(folder, 1))
        nodes.append(RayNode(folder, 1, nodes[0].address))
        yield nodes[0].address
    finally:
        for node in reversed(nodes):
            node.close()
        shutil.rmtree(folder)
    assert not [line for line in _command_lines() if str(folder) in line]


def _command_lines() -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return found


def test_two_raylets_give_the_tables_that_processes_give_byte_for_byte(cluster: str, tmp_path: Path):
    archive = write_archive(tmp_path, 4, 20)
    arguments = (
        "batch",
        archive,
        "-o",
        "far",
        "--calibration",
        "simulator",
        "--max-frames",
        "20",
        "--cluster",
        cluster,
    )
    done = casa(*arguments, "--json", cwd=tmp_path, timeout_s=400)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["analysed"], said["failed"], done.stderr) == (4, [], "")
    workers = {json.loads(mark)["where"] for mark in marks_in(tmp_path / "far").values()}
    assert len(workers) == 2  # both took their part
    near, pool = open_store(str(tmp_path / "near"), create=True), LocalPool(1)
    try:
        config = resolved(load_config("replay", {"source.max_frames": 20}), cluster=False, gpus=0)
        assert run(make_plan(find([str(archive)]), near, config, "simulator"), pool, near).complete
    finally:
        pool.close()
    assert tables_in(tmp_path / "far") == tables_in(tmp_path / "near")


@pytest.mark.parametrize("kind", ["refused", "silent"])
def test_a_cluster_that_is_not_there_is_one_line_within_seconds(kind: str, monkeypatch):
    from casa.batch import ray_cluster

    monkeypatch.setattr(ray_cluster, "JOIN_TIMEOUT_S", 4.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        if kind == "refused":
            server.close()
        with pytest.raises(CasaError, match=f"--cluster {address}: ") as told:
            ray_cluster.RayPool(address)
    assert told.value.exit_code == 1
    assert "\n" not in str(told.value)


def test_what_the_cluster_says_is_not_mixed_into_the_result(capsys):
    from ray._private.worker import listen_error_messages

    from casa.batch.ray_cluster import import_ray

    import_ray()
    stopped, ray = threading.Event(), Mock()

    def poll() -> tuple[None, dict[str, Any]]:
        stopped.set()
        return None, {"job_id": None, "error_message": "The node is dead.\nThis can happen."}

    ray.gcs_error_subscriber.poll = poll
    ray.current_job_id.binary.return_value = b"job"
    listen_error_messages(ray, stopped)
    assert capsys.readouterr() == ("", "casa: warning: the cluster says: The node is dead. This can happen.\n")


def test_what_is_no_address_is_told(monkeypatch):
    from casa.batch.ray_cluster import RayPool

    with pytest.raises(InputError, match="expected local, auto or HOST:PORT"):
        RayPool("somewhere")
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"casa-engine\[cluster\]"):
        RayPool("local")
