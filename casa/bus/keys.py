"""Keys of the bus (CURVE): who may connect, and proof of it. Without them the bus is for this machine alone.

A folder of keys holds ``engine.key`` (public) and ``engine.key_secret``, and the same for each client. The engine takes
the clients whose ``.key`` lies in its folder; a client needs its own two files and ``engine.key``.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from casa.errors import CasaError, InputError

ENGINE = "engine"
DEFAULT_CLIENT = "client"
_HEAD = "#   casa bus: {what}\n\ncurve\n"


@dataclass(frozen=True, slots=True)
class Keys:
    """One side's keys: its own, the engine's public one, and (for the engine) those of the clients it takes."""

    public: bytes
    secret: bytes
    engine: bytes
    clients: tuple[bytes, ...] = ()


def make_keys(folder: Path, clients: tuple[str, ...]) -> list[Path]:
    """Make the keys of the engine and of ``clients`` in a folder; those that are there stay. Gives the files made.

    Raises
    ------
    InputError : a name that is no file name. CasaError : the folder cannot be written.
    """
    import zmq

    for name in clients:
        if not name.replace("-", "").replace("_", "").isalnum() or name == ENGINE:
            raise InputError(f"--client {name}: expected letters, digits, - and _, and not {ENGINE}")
    made: list[Path] = []
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in (ENGINE, *clients):
            public_file, secret_file = folder / f"{name}.key", folder / f"{name}.key_secret"
            if public_file.exists() or secret_file.exists():
                continue
            public, secret = zmq.curve_keypair()
            line = f'    public-key = "{public.decode()}"\n'
            _write(public_file, _HEAD.format(what=f"public key of {name}") + line, 0o644)
            secret_line = f'    secret-key = "{secret.decode()}"\n'
            _write(secret_file, _HEAD.format(what=f"SECRET key of {name}: keep it") + line + secret_line, 0o600)
            made += [public_file, secret_file]
    except OSError as error:
        raise CasaError(f"{folder}: keys cannot be written there ({error.strerror or error})") from error
    return made


def load_engine_keys(folder: Path) -> Keys:
    """The engine's keys, with every client's public key in the folder. Raises InputError."""
    public, secret = _read_pair(folder / f"{ENGINE}.key_secret")
    clients = tuple(
        _read(path, "public-key") for path in sorted(folder.glob("*.key")) if path.stem != ENGINE
    )  # fmt: skip
    if not clients:
        raise InputError(f"{folder}: holds no client's key, so nobody could connect; `casa keys {folder}` makes one")
    return Keys(public, secret, public, clients)


def load_client_keys(folder: Path, name: str | None = None) -> Keys:
    """A client's keys: its own (by name, or the first), and the engine's public one. Raises InputError."""
    engine_file = folder / f"{ENGINE}.key"
    if not engine_file.is_file():
        raise InputError(f"{engine_file}: missing; copy it from the machine on which `casa keys` made it")
    if name is None:
        found = [path for path in sorted(folder.glob("*.key_secret")) if path.stem != ENGINE]
        if not found:
            raise InputError(f"{folder}: holds no client's secret key; `casa keys {folder}` makes one")
        name = found[0].stem
    public, secret = _read_pair(folder / f"{name}.key_secret")
    return Keys(public, secret, _read(engine_file, "public-key"))


def let_in(socket: Any, allowed: set[bytes]) -> None:
    """Answer ZeroMQ's questions on the socket of its gate: clients of these public keys may connect (ZAP, RFC 27)."""
    while socket.poll(0):
        version, request_id, _, _, _, mechanism, *credentials = socket.recv_multipart()
        known = mechanism == b"CURVE" and len(credentials) == 1 and credentials[0] in allowed
        code, text = (b"200", b"OK") if known else (b"400", b"unknown key")
        socket.send_multipart([version, request_id, code, text, b"", b""])


def _write(path: Path, text: str, mode: int) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(fd, "w", encoding="ascii") as stream:
        stream.write(text)


def _read_pair(path: Path) -> tuple[bytes, bytes]:
    return _read(path, "public-key"), _read(path, "secret-key")


def _read(path: Path, what: str) -> bytes:
    try:
        text = path.read_text(encoding="ascii")
    except FileNotFoundError:
        raise InputError(f"{path}: no such key; `casa keys {path.parent}` makes keys") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as a key ({error})") from error
    for line in text.splitlines():
        name, _, value = line.partition("=")
        if name.strip() == what and len(value.strip().strip('"')) == 40:
            return value.strip().strip('"').encode()
    raise InputError(f"{path}: holds no {what} of 40 characters")
