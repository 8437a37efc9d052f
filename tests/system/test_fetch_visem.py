"""tools/fetch_visem.py against a real HTTP server that can break off, refuse ranges, and send the wrong bytes."""

from __future__ import annotations

import hashlib
import http.server
import io
import json
import re
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

TOOL = Path(__file__).resolve().parents[2] / "tools" / "fetch_visem.py"


def archive() -> bytes:
    """A zip of about a megabyte that does not compress."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as content:
        content.writestr("VISEM_Tracking_Train_v4/Train/82/82.mp4", np.random.default_rng(0).bytes(1_000_000))
        content.writestr("VISEM_Tracking_Train_v4/Train/82/labels/82_frame_0.txt", "0 0.5 0.5 0.1 0.1\n")
    return buffer.getvalue()


class Server(http.server.ThreadingHTTPServer):
    """A Zenodo of one record; its attributes say how it misbehaves."""

    daemon_threads = True
    block_on_close = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = {"VISEM-Tracking.zip": archive(), "readme.txt": b"CC BY 4.0\n"}
        self.sums = {name: hashlib.md5(data).hexdigest() for name, data in self.files.items()}
        self.break_after: list[int] = []  # bytes after which the next transfers break off
        self.serves_ranges = True
        self.statuses: list[int] = []  # answered first, one a request
        self.record: bytes | None = None
        self.requests: list[tuple[str, str | None]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def ranges(self, name: str) -> list[str | None]:
        return [wanted for path, wanted in self.requests if name in path]

    def record_json(self) -> bytes:
        files = [
            {
                "key": name,
                "size": len(data),
                "checksum": f"md5:{self.sums[name]}",
                "links": {"self": f"{self.url}/api/records/7293726/files/{name}/content"},
            }
            for name, data in self.files.items()
        ]
        return json.dumps({"id": 7293726, "files": files}).encode()


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.requests.append((self.path, wanted))
        if self.server.statuses:
            self.send_error(self.server.statuses.pop(0))
        elif self.path == "/api/records/7293726":
            self.answer(self.server.record if self.server.record is not None else self.server.record_json())
        elif match := re.fullmatch(r"/api/records/7293726/files/([^/]+)/content", self.path):
            self.send_file(self.server.files[match[1]], wanted)
        else:
            self.send_error(404)

    def answer(self, data: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def send_file(self, data: bytes, wanted: str | None) -> None:
        start = 0
        if wanted and self.server.serves_ranges:
            start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1])
            if start >= len(data):
                self.send_error(416)
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        end = len(data)
        if self.server.break_after:
            end = min(end, start + self.server.break_after.pop(0))
        self.wfile.write(data[start:end])
        self.close_connection = True


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def run(server: Server, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(TOOL), str(folder), "--base-url", server.url, "--retries", "2", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def one_line(text: str) -> bool:
    return len(text.strip().splitlines()) == 1


def test_all_files_arrive_whole_and_are_unpacked(server, tmp_path):
    done = run(server, tmp_path / "data", "--unpack")
    assert done.returncode == 0, done.stderr
    for name, data in server.files.items():
        assert (tmp_path / "data" / name).read_bytes() == data
    assert (tmp_path / "data/VISEM_Tracking_Train_v4/Train/82/labels/82_frame_0.txt").is_file()
    assert not list((tmp_path / "data").glob("*.part"))
    assert done.stdout.splitlines() == [str(tmp_path / "data" / name) for name in server.files]


def test_a_transfer_that_breaks_off_goes_on_where_it_stopped(server, tmp_path):
    server.break_after = [300_000, 0, 400_000]
    done = run(server, tmp_path, "--file", "VISEM-Tracking.zip")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "VISEM-Tracking.zip").read_bytes() == server.files["VISEM-Tracking.zip"]
    assert server.ranges("zip") == [None, "bytes=300000-", "bytes=300000-", "bytes=700000-"]
    assert server.ranges("readme") == []


def test_a_second_run_goes_on_with_what_the_first_left(server, tmp_path):
    server.break_after = [250_000, 0, 0]
    first = run(server, tmp_path, "--file", "VISEM-Tracking.zip")
    assert first.returncode == 1
    assert one_line(first.stderr)
    assert "run the same command again" in first.stderr
    assert (tmp_path / "VISEM-Tracking.zip.part").stat().st_size == 250_000
    assert not (tmp_path / "VISEM-Tracking.zip").exists()
    server.requests.clear()
    second = run(server, tmp_path, "--file", "VISEM-Tracking.zip")
    assert second.returncode == 0, second.stderr
    assert server.ranges("zip") == ["bytes=250000-"]
    assert (tmp_path / "VISEM-Tracking.zip").read_bytes() == server.files["VISEM-Tracking.zip"]


def test_what_is_there_and_right_is_not_fetched_again(server, tmp_path):
    assert run(server, tmp_path).returncode == 0
    server.requests.clear()
    assert run(server, tmp_path).returncode == 0
    assert server.ranges("content") == []
    (tmp_path / "readme.txt").write_bytes(b"XX BY 4.0\n")
    assert run(server, tmp_path).returncode == 0
    assert (tmp_path / "readme.txt").read_bytes() == b"CC BY 4.0\n"


def test_a_server_without_ranges_is_asked_for_the_whole(server, tmp_path):
    server.serves_ranges = False
    (tmp_path / "VISEM-Tracking.zip.part").write_bytes(b"old bytes")
    done = run(server, tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "VISEM-Tracking.zip").read_bytes() == server.files["VISEM-Tracking.zip"]


def test_wrong_bytes_are_found_and_leave_nothing_that_looks_right(server, tmp_path):
    server.sums["readme.txt"] = hashlib.md5(b"something else").hexdigest()
    done = run(server, tmp_path, "--file", "readme.txt")
    assert done.returncode == 1
    assert one_line(done.stderr)
    assert "wrong MD5 sum" in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_part_of_another_file_does_not_become_this_one(server, tmp_path):
    size = len(server.files["VISEM-Tracking.zip"])
    (tmp_path / "VISEM-Tracking.zip.part").write_bytes(bytes(size))
    assert run(server, tmp_path, "--file", "VISEM-Tracking.zip").returncode == 1
    (tmp_path / "VISEM-Tracking.zip.part").write_bytes(bytes(size + 1))
    assert run(server, tmp_path, "--file", "VISEM-Tracking.zip").returncode == 0


def test_an_overloaded_server_is_asked_again(server, tmp_path):
    server.statuses = [503, 429]
    done = run(server, tmp_path, "--file", "readme.txt")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "record", "code", "said"),
    [
        (["--record", "1"], None, 2, "404"),
        (["--file", "none.zip"], None, 2, "the record has VISEM-Tracking.zip, readme.txt"),
        ([], b"<html>", 1, "something else than a record"),
        ([], b'{"files": []}', 1, "no files"),
        ([], b'{"files": [{"key": "../x", "size": 1, "checksum": "md5:00", "links": {"self": "x"}}]}', 1, "not as"),
        (["--base-url", "ftp://127.0.0.1"], None, 2, "not an http"),
    ],
)
def test_what_cannot_work_is_said_in_one_line(server, tmp_path, arguments, record, code, said):
    server.record = record
    done = run(server, tmp_path, *arguments)
    assert done.returncode == code
    assert said in done.stderr
    assert one_line(done.stderr)
    assert done.stdout == ""


def test_nobody_there_is_said_after_the_tries(tmp_path):
    with Server() as gone:
        url = gone.url
    command = [sys.executable, str(TOOL), str(tmp_path), "--base-url", url, "--retries", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert one_line(done.stderr)
    assert "refused" in done.stderr


def test_the_list_names_sizes_and_sums_and_fetches_nothing(server, tmp_path):
    done = run(server, tmp_path / "none", "--list")
    assert done.stdout.splitlines()[1] == f"readme.txt\t10\t{server.sums['readme.txt']}"
    assert not (tmp_path / "none").exists()


def test_help_explains_itself():
    done = subprocess.run([sys.executable, str(TOOL), "--help"], capture_output=True, text=True, check=True)
    for word in ("Zenodo", "--base-url", "--unpack", "Exit codes"):
        assert word in done.stdout
