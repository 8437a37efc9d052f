"""Where configs, models and calibrations lie: in the checkout, or inside the installed wheel."""

from __future__ import annotations

from pathlib import Path

from casa.errors import InputError

_PACKAGE = Path(__file__).resolve().parent


def resource_dir(kind: str) -> Path:
    """The folder of the shipped ``configs``, ``models`` or ``calibration``."""
    packaged = _PACKAGE / "_data" / kind
    if packaged.is_dir():
        return packaged
    checkout = _PACKAGE.parent / kind
    if (_PACKAGE.parent / "pyproject.toml").is_file() and checkout.is_dir():
        return checkout
    raise InputError(f"casa's own {kind}/ folder is missing from this installation: install casa-engine again")


def find_resource(kind: str, name: str | Path, suffix: str) -> Path:
    """A file by path, or by bare name among the shipped ones (``replay`` -> ``configs/replay.yaml``)."""
    path = Path(name)
    if path.is_file():
        return path
    shipped = resource_dir(kind) / (path.name if path.suffix == suffix else f"{path.name}{suffix}")
    if path.parent == Path(".") and shipped.is_file():
        return shipped
    known = ", ".join(sorted(p.stem for p in resource_dir(kind).glob(f"*{suffix}"))) or "none"
    raise InputError(f"{name}: no such file, nor one of the shipped {kind} ({known})")


def named_in_checkout(path: Path) -> str:
    """A file of casa's own by its path from the checkout, another by its name: as a model's card may have it."""
    home, path = resource_dir("configs").resolve().parent, path.resolve()
    return path.relative_to(home).as_posix() if path.is_relative_to(home) else path.name
