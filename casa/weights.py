"""Where a network's weights lie, what is known of them, and that they are the ones that were published.

``manifest.toml`` lies beside the weights: in casa's own ``models/``, and in the folder ``casa train`` writes.
"""

from __future__ import annotations

import hashlib
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from casa.errors import InputError
from casa.resources import resource_dir

MANIFEST = "manifest.toml"


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """One model of a manifest: its files by kind (``onnx``, ``int8``, ``state``) as (path, sha256), and its provenance.

    ``role`` is ``accuracy`` for the most accurate detector, which is not the default. ``knows``: of classifiers of
    heads, what they tell apart and from what pictures they have learnt it (`casa.morphology.domain`).
    """

    name: str
    task: str
    folder: Path
    files: dict[str, tuple[Path, str]]
    licence: str = "unknown"
    trained_on: str = "unknown"
    command: str = ""
    seed: int | None = None
    card: str = ""
    role: str = ""
    scores: dict[str, float] = field(default_factory=dict)
    knows: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Weights:
    """A weights file that was found and, where a manifest names it, checked."""

    path: Path
    sha256: str
    entry: ModelEntry


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file, in hex."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error


def read_manifest(folder: Path) -> dict[str, ModelEntry]:
    """The models of ``folder`` by name; none where it has no manifest.

    Raises
    ------
    InputError : the manifest is not TOML or lacks what every entry needs.
    """
    path = folder / MANIFEST
    if not path.is_file():
        return {}
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
        entries = {}
        for name, entry in data["models"].items():
            files = {kind: (folder / item["file"], str(item["sha256"])) for kind, item in entry["files"].items()}
            entries[name] = ModelEntry(
                name=name,
                task=entry["task"],
                folder=folder,
                files=files,
                licence=entry["licence"],
                trained_on=entry["trained_on"],
                command=entry.get("command", ""),
                seed=entry.get("seed"),
                card=entry.get("card", ""),
                role=entry.get("role", ""),
                scores=dict(entry.get("scores", {})),
                knows=dict(entry.get("knows", {})),
            )
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not TOML ({error})") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: an entry lacks {error}; see the manifest in casa's models/") from error
    return entries


def check_sum(path: Path, expected_sha256: str) -> str:
    """The file's SHA-256 if it is ``expected_sha256``.

    Raises
    ------
    InputError : it is missing, or another.
    """
    if not path.is_file():
        raise InputError(f"{path}: the weights are missing; install casa-engine again, or train with casa train")
    actual = file_sha256(path)
    if actual != expected_sha256:
        raise InputError(
            f"{path}: sha256 is {actual[:12]}…, the manifest says {expected_sha256[:12]}…; the file is damaged or "
            "not the published one: put it back, or name the file by another path to use it unchecked"
        )
    return actual


def resolve_weights(name_or_path: str, kinds: tuple[str, ...], task: str = "detector") -> Weights:
    """The weights by name in casa's manifest, or by path; the first of ``kinds`` (onnx, int8, state, ir) that exists.

    ``task`` is what they are for, as the manifest calls it: detector, grade.

    Raises
    ------
    InputError : no such name or file, not of one of these kinds, or not the file its manifest describes.
    """
    suffixes = {"onnx": ".onnx", "int8": ".onnx", "state": ".pt", "ir": ".xml"}
    path = Path(name_or_path)
    if path.suffix in suffixes.values() or path.is_file():
        return _resolve_path(path, {kind: suffixes[kind] for kind in kinds}, task)
    shipped = read_manifest(resource_dir("models"))
    entry = shipped.get(name_or_path)
    if entry is None or entry.task != task:
        known = ", ".join(sorted(name for name, item in shipped.items() if item.task == task)) or "none"
        what = {"detector": "detector"}.get(task, f"{task} network")
        raise InputError(f"{name_or_path}: no such {what} (known: {known}), nor a file ending in .onnx, .pt or .xml")
    for kind in kinds:
        if kind in entry.files:
            file, sha256 = entry.files[kind]
            return Weights(file, check_sum(file, sha256), entry)
    raise InputError(f"{name_or_path}: the manifest has no {' or '.join(kinds)} file of this network")


def _resolve_path(path: Path, wanted: dict[str, str], task: str) -> Weights:
    if not path.is_file():
        raise InputError(f"{path}: no such weights file")
    # The other file of the same training will do: sperm.onnx given, sperm.pt needed.
    candidates = [path] if path.suffix in wanted.values() else [path.with_suffix(s) for s in wanted.values()]
    found = next((candidate for candidate in candidates if candidate.is_file()), None)
    if found is None:
        reads = f"this backend reads {' or '.join(dict.fromkeys(wanted.values()))}"
        raise InputError(f"{path}: {reads}; choose another with --backend")
    for entry in read_manifest(found.parent).values():
        for file, sha256 in entry.files.values():
            if file.name == found.name:
                return Weights(found, check_sum(found, sha256), entry)
    entry = ModelEntry(found.stem, task, found.parent, {})
    return Weights(found, file_sha256(found), entry)


def most_accurate() -> str:
    """The name of the detector that casa brings for ``--accuracy``.

    Raises
    ------
    InputError : the manifest names none.
    """
    for name, entry in sorted(read_manifest(resource_dir("models")).items()):
        if entry.task == "detector" and entry.role == "accuracy":
            return name
    raise InputError("--accuracy: casa's models have no detector of that role; name one with --weights")


def write_manifest(folder: Path, entries: dict[str, ModelEntry]) -> None:
    """Write ``manifest.toml`` into ``folder``, where the entries' files lie."""
    lines = ["# What lies in this folder and where it comes from. Sums are checked whenever weights are loaded."]
    for name, entry in sorted(entries.items()):
        lines += ["", f"[models.{_toml(name)}]"]
        for key in ("task", "role", "licence", "trained_on", "command", "seed", "card"):
            value = getattr(entry, key)
            if value not in (None, ""):
                lines.append(f"{key} = {_toml(value)}")
        for kind, (file, sha256) in entry.files.items():
            lines += ["", f"[models.{_toml(name)}.files.{kind}]"]
            lines += [f"file = {_toml(file.name)}", f"sha256 = {_toml(sha256)}"]
        for table, values in (("knows", entry.knows), ("scores", entry.scores)):
            if values:
                lines += ["", f"[models.{_toml(name)}.{table}]"]
                lines += [f"{_toml(key)} = {_toml(value)}" for key, value in values.items()]
    (folder / MANIFEST).write_text("\n".join(lines) + "\n", encoding="utf-8")


def _toml(value: Any) -> str:
    """A string, number, truth or list of them as TOML; JSON's are TOML's too."""
    import json

    return repr(value) if isinstance(value, float) else json.dumps(value, ensure_ascii=False)
