"""Claims about configuration: shipped files load, and each mistake is one line that names the key."""

from __future__ import annotations

from pathlib import Path

import pytest

from casa.config import load_config
from casa.errors import InputError


@pytest.mark.parametrize("name", ["replay", "visem"])
def test_shipped_configs_load(name):
    config = load_config(name)
    assert config.graph.edges["detect"].policy == "block"


def test_overrides_win_and_none_leaves_alone():
    config = load_config("replay", {"source.fps_hz": 49, "detect.confidence": None, "kinematics.jitter_px": "auto"})
    assert config.source.fps_hz == 49
    assert config.kinematics.jitter_px == "auto"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("source: {fps_hz: 0}", r"source\.fps_hz"),
        ("source: {fps_hz: .inf}", r"source\.fps_hz"),
        ("track: {modells: []}", r"track\.modells"),
        ("graph: {edges: {detect: {policy: maybe}}}", r"graph\.edges\.detect\.policy"),
        ("nonsense: 1", "nonsense"),
        ("- a\n- b", "expected sections"),
        ("a: [", "cannot be read as YAML"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_key(tmp_path: Path, text, message):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        load_config(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(InputError, match=r"replay.*visem"):
        load_config("no-such-config")
