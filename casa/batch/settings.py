"""What recordings are analysed with, as far as it bears on the figures, and the fingerprint by which it is known."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from casa import __version__
from casa.config import Config
from casa.errors import InputError
from casa.types import Calibration

#: Sections and keys of the configuration that say how the work is done, and not what comes out.
_NO_BEARING = {"graph", "bus", "live", "camera", "offline", "record"}
_NO_BEARING_KEYS = {"threads", "graders", "cpu_share", "queue_clips", "attempts", "finish_s", "attention",
                    "heat_maps"}  # fmt: skip


def resolved(config: Config, cluster: bool, gpus: float) -> Config:
    """The configuration with backend and device as all workers are to use them, whatever machine they run on.

    Raises
    ------
    InputError : weights, backend and device do not go together.
    """
    from casa.detect.load import chosen_weights

    detect = config.detect
    if cluster and detect.device == "auto":
        detect = detect.model_copy(update={"device": "cuda" if gpus else "cpu"})
    if gpus and detect.device == "cpu":
        raise InputError("--gpus: the configuration says detect.device: cpu; leave out one of them")
    kind, device, _ = chosen_weights(detect)
    grade = config.grade
    if grade.device == "auto" and device == "cpu":
        grade = grade.model_copy(update={"device": "cpu"})
    detect = detect.model_copy(update={"backend": kind, "device": device})
    return config.model_copy(update={"detect": detect, "grade": grade})


def with_threads(config: Config, threads: int) -> Config:
    """The configuration for a worker that has so many cores; 0: all."""
    data = config.model_dump(mode="json")
    for section in data.values():
        if isinstance(section, dict) and "threads" in section and section["threads"] == 0:
            section["threads"] = threads
    return Config.model_validate(data)


def networks(config: Config) -> dict[str, Any]:
    """The networks that the configuration names, checked: name, file and sha256 by the section that uses them."""
    from casa.detect.load import chosen_weights
    from casa.weights import resolve_weights

    weights = {"detect": chosen_weights(config.detect)[2]}
    if config.grade.enabled:
        weights["grade"] = resolve_weights(config.grade.weights, ("onnx", "state"), "grade")
    if config.morphology.enabled:
        weights["morphology"] = resolve_weights(config.morphology.weights, ("state",), "morphology")
    return {part: {"name": w.entry.name, "file": w.path.name, "sha256": w.sha256} for part, w in weights.items()}


def bearing(config: dict[str, Any]) -> dict[str, Any]:
    """What of a configuration (as JSON) bears on the figures."""
    kept = {}
    for section, values in config.items():
        if section in _NO_BEARING or not isinstance(values, dict):
            continue
        kept[section] = {key: value for key, value in values.items() if key not in _NO_BEARING_KEYS}
        if not values.get("enabled", True):  # what is off does nothing, however it is set
            kept[section] = {"enabled": False}
    return kept


def settings_of(config: Config, used: dict[str, Any], calibration: Calibration | None) -> dict[str, Any]:
    """All that bears on a recording's figures besides itself, ready for JSON; ``used`` is of ``networks``."""
    return {
        "casa_version": __version__,
        "config": bearing(config.model_dump(mode="json")),
        "networks": used,
        "calibration": None if calibration is None else asdict(calibration),
    }


def settings_of_session(session: dict[str, Any]) -> dict[str, Any]:
    """The same of a recording that exists, by what it says of itself."""
    used = {}
    for part, key in (("detect", "model"), ("grade", "grade_model"), ("morphology", "morphology_model")):
        if (model := session.get(key)) is not None:
            used[part] = {name: model.get(name) for name in ("name", "file", "sha256")}
    config = bearing(session.get("config") or {})
    if (model := session.get("model")) is not None and "detect" in config:  # what "auto" came to
        config["detect"] |= {"backend": model.get("backend"), "device": model.get("device")}
    return {
        "casa_version": session.get("casa_version"),
        "config": config,
        "networks": used,
        "calibration": session.get("calibration"),
    }


def canonical(settings: dict[str, Any]) -> bytes:
    """JSON with keys in order: equal settings give equal bytes."""
    return json.dumps(settings, sort_keys=True, indent=1, ensure_ascii=False).encode()


def fingerprint(settings: dict[str, Any]) -> str:
    """16 hex digits by which settings are known."""
    return hashlib.sha256(canonical(settings)).hexdigest()[:16]


def differences(first: dict[str, Any], second: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """What differs, by dotted key; None stands for what is not there. Of what is on in one alone, just that."""
    one, two = dict(_flat(first)), dict(_flat(second))
    keys = [key for key in sorted(one.keys() | two.keys()) if one.get(key) != two.get(key)]
    in_one = tuple(key.removesuffix("enabled") for key in keys if key.endswith(".enabled"))
    kept = [key for key in keys if key.endswith(".enabled") or not key.startswith(in_one)]
    return {key: (one.get(key), two.get(key)) for key in kept}


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _flat(item, f"{prefix}{key}.")
    else:
        yield prefix[:-1], value
