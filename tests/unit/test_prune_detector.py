import copy
import importlib.util
from pathlib import Path

import pytest
import torch

from casa.detect import network
from casa.detect.train import load_train_config
from casa.errors import InputError
from casa.resources import resource_dir

CONFIGS = resource_dir("configs") / "detector"


@pytest.fixture(scope="module")
def prune():
    path = Path(__file__).parents[2] / "tools" / "prune_detector.py"
    spec = importlib.util.spec_from_file_location("prune_detector", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.prune


def layers_up_to(model: torch.nn.Module, stop: int, x: torch.Tensor) -> torch.Tensor:
    for layer in model.model[:stop]:  # type: ignore[index]
        x = layer(x)
    return x


def test_the_default_is_pruned_from_the_accurate_network(prune):
    large, _, _ = network.load_state(resource_dir("models") / "sperm-accurate.pt")
    config = load_train_config(CONFIGS / "finish.yaml")
    small = network.build_network(config.network, config.classes).eval()
    assert prune(large, small) == 10
    x = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        stem = layers_up_to(small, 1, x)
        whole = layers_up_to(large, 1, x)
    assert stem.shape[1] == 8
    # Every channel that is left is one of the larger network's.
    distance = (stem[0, :, None] - whole[0, None]).abs().amax((2, 3)).min(dim=1).values
    assert distance.max() < 1e-6
    torch.testing.assert_close(small.model[2].conv.weight, large.model[2].conv.weight)


def test_nothing_is_lost_where_nothing_is_smaller(prune):
    large, architecture, classes = network.load_state(resource_dir("models") / "sperm.pt")
    same = network.build_network(copy.deepcopy(architecture), classes).eval()
    prune(large, same)
    same.model[-1].load_state_dict(large.model[-1].state_dict())
    x = torch.rand(1, 1, 64, 96)
    with torch.no_grad():
        for a, b in zip(network.raw_heads(same)(x), network.raw_heads(large)(x), strict=True):
            torch.testing.assert_close(a, b)


def test_a_network_that_is_larger_is_refused(prune):
    small, _, _ = network.load_state(resource_dir("models") / "sperm.pt")
    config = load_train_config(CONFIGS / "accurate.yaml")
    large = network.build_network(config.network, config.classes).eval()
    with pytest.raises(InputError, match="layer 0, "):
        prune(small, large)
