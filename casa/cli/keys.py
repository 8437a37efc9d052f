"""``casa keys``: keys for a bus that others than this machine may reach."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def keys(
    folder: Annotated[Path, typer.Argument(help="Where the keys are kept; those that are there stay.")],
    client: Annotated[
        list[str] | None, typer.Option(help="Name of a client to make a key for; can be given several times.")
    ] = None,
) -> None:
    """Make keys for the engine and its clients: without one of them nobody gets anything from the bus."""
    from casa.bus.keys import DEFAULT_CLIENT, ENGINE, make_keys

    made = make_keys(folder, tuple(client or (DEFAULT_CLIENT,)))
    for path in made:
        secret = path.suffix == ".key_secret"
        whose = "the engine's" if path.stem == ENGINE else f"{path.stem}'s"
        print(f"{path}: {whose} {'secret key: keep it' if secret else 'public key'}")
    if not made:
        print(f"{folder}: all keys are there already")
    print(
        f"engine: casa live --endpoint tcp://ADDRESS:PORT --keys {folder}\n"
        f"client: copy NAME.key, NAME.key_secret and {ENGINE}.key to it; casa view tcp://ADDRESS:PORT --keys FOLDER"
    )
