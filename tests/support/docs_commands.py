"""The commands that the documentation shows: found in its fenced blocks, and put to the real command line's parser."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import typer

from casa.cli.main import app

ROOT = Path(__file__).resolve().parents[2]
_COMMAND = re.compile(r"^\s*(?:\$ )?(?:pip install uv && )?(?:uv run )?casa(?=\s|$)(?P<rest>.*)$")
_FENCE = re.compile(r"^\s*(```+|~~~+)")


@dataclass(frozen=True, slots=True)
class Shown:
    """A command as a page shows it: ``line`` without comments, ``arguments`` those of ``casa``."""

    page: str
    number: int
    line: str
    arguments: tuple[str, ...]


def pages() -> list[Path]:
    """README and every page of docs/."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def commands_of(page: Path) -> list[Shown]:
    """The ``casa`` commands of a page's fenced blocks, in order.

    A command ends at two spaces or ``#``; one that ends in a backslash goes on in the next line. What is optional,
    ``[--json]``, is taken as given.
    """
    found, inside, begun = [], False, ""
    for number, text in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        if _FENCE.match(text):
            inside, begun = not inside, ""
            continue
        if not inside:
            continue
        line = f"{begun} {text.strip()}" if begun else text
        begun = line.rstrip()[:-1].rstrip() if line.rstrip().endswith("\\") else ""
        match = _COMMAND.match(line)
        if match is None or begun:
            continue
        rest = re.split(r"\s{2,}|\s#", match["rest"].strip())[0]
        arguments = tuple(shlex.split(rest.replace("[", "").replace("]", "")))
        found.append(Shown(str(page.relative_to(ROOT)), number, f"casa {rest}".strip(), arguments))
    return found


@cache
def _command_line() -> Any:
    return typer.main.get_command(app)


def parse(arguments: tuple[str, ...]) -> None:
    """Let the command line take a command in, without running it: raises its own error where an option is wrong."""
    command, context, rest = _command_line(), None, list(arguments)
    while True:
        context = command.make_context(command.name, rest, parent=context)
        if not hasattr(command, "resolve_command"):
            return
        rest = [*context._protected_args, *context.args]
        if not rest:
            return
        _, command, rest = command.resolve_command(context, rest)
