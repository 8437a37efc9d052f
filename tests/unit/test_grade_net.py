"""The grading networks against the paper's equations, written out slowly, and what all of them promise."""

import numpy as np
import pytest
import rostfine_plain
import torch

from casa.errors import InputError
from casa.grade.build import NETWORKS, build_network, flops, parameters
from casa.grade.rollout import rollout

SMALL = {"size_px": 24, "patch_px": 8, "frames": 4, "width": 8, "heads": 2, "depth": 3, "selected": 2,
         "branch_depth": 2, "branch_heads": 4}  # fmt: skip


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def scattered(network: torch.nn.Module, seed: int = 3) -> torch.nn.Module:
    """The network in float64 with weights large enough that everything in it matters."""
    generator = torch.Generator().manual_seed(seed)
    network = network.to(torch.float64).eval()
    for parameter in network.parameters():
        with torch.no_grad():
            parameter.add_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * 0.3)
    return network


def clips_for(network, count: int = 2, seed: int = 5) -> torch.Tensor:
    c = network.config
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, c.frames, c.size_px, c.size_px, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("variant", ["paper", "authors"])
def test_rostfine_is_what_the_equations_say(variant: str):
    network = scattered(build_network("rostfine", "T", variant, **SMALL))
    clips = clips_for(network)
    with torch.no_grad():
        found = network(clips)
    weights = {key: value.numpy() for key, value in network.state_dict().items()}
    for k, clip in enumerate(clips.numpy()):
        parts, features, selected = rostfine_plain.rostfine(clip, weights, network.config)
        for logits, feature, name in zip(found.parts, found.features, ("global", "spatial", "temporal"), strict=True):
            np.testing.assert_allclose(logits[k].softmax(-1), parts[name], atol=1e-10)
            np.testing.assert_allclose(feature[k], features[name], atol=1e-10)
        np.testing.assert_array_equal(found.selected[k], selected)
        np.testing.assert_allclose(found.distribution[k], np.mean(list(parts.values()), axis=0), atol=1e-10)  # Eq. 20


def test_the_variants_take_different_patches():
    network = scattered(build_network("rostfine", "T", "paper", **SMALL))
    other = scattered(build_network("rostfine", "T", "authors", **SMALL))
    other.encoder.load_state_dict(network.encoder.state_dict())
    clips = clips_for(network, 4)
    with torch.no_grad():
        patches = network.encoder(clips).patches
        chosen = torch.zeros(4, 4, 2, dtype=torch.int64)
        chosen[:, 1] = 3
        right, shuffled = network._select(patches, chosen), other._select(patches, chosen)
    assert torch.equal(right[0, 1, 0], patches[0, 1, 3])
    # Token 1 * 9 + 3 = 12 of the order patch by patch, four times each: patch 3 at time 0.
    assert torch.equal(shuffled[0, 1, 0], patches[0, 0, 3])


def test_rollout_is_abnar_and_zuidemas():
    network = scattered(build_network("rostfine", "T", **SMALL))
    clips = clips_for(network)
    with torch.no_grad():
        found = rollout(network.space_attention(clips))
    weights = {key: value.numpy() for key, value in network.state_dict().items()}
    _, _, maps = rostfine_plain.encode(clips[1].numpy(), weights, network.config)
    for frame in range(4):
        expected = rostfine_plain.rollout([layer[frame] for layer in maps])
        np.testing.assert_allclose(found[1, frame], expected, atol=1e-12)


@pytest.mark.parametrize("name", NETWORKS)
def test_each_network_grades_each_clip_for_itself_and_learns(name: str):
    torch.manual_seed(0)
    network = build_network(name, "T").eval()
    c = network.config
    clips = torch.randn(3, 3, c.frames, c.size_px, c.size_px)
    with torch.no_grad():
        together = network(clips)
        alone = network(clips[1:2])
    assert together.distribution.shape == (3, 5)
    torch.testing.assert_close(together.distribution.sum(-1), torch.ones(3))
    torch.testing.assert_close(together.distribution[1:2], alone.distribution, atol=1e-5, rtol=0)
    with torch.no_grad():  # some layers begin at zero, and hide what is behind them
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.01)
    sum(part.softmax(-1)[:, 0].sum() for part in network.train()(clips).parts).backward()
    silent = [key for key, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert [key for key in silent if key.endswith("weight")] == []


def test_the_small_networks_cost_about_the_same():
    giga = {name: flops(build_network(name, "T")) / 1e9 for name in NETWORKS}
    assert 0.3 < giga["rostfine"] < 0.45
    for name, cost in giga.items():
        assert 0.45 < cost / giga["rostfine"] < 1.4, name


@pytest.mark.parametrize("branches", [("global",), ("spatial",), ("temporal",), ("spatial", "temporal")])
def test_branches_can_be_left_out(branches: tuple[str, ...]):
    network = build_network("rostfine", "T", branches=branches).eval()
    with torch.no_grad():
        found = network(torch.randn(2, 3, 8, 112, 112))
    given = {"global": found.global_, "spatial": found.spatial, "temporal": found.temporal}
    assert {name for name, part in given.items() if part is not None} == set(branches)
    assert len(found.features) == len(found.parts) == len(branches)


@pytest.mark.parametrize(("aggregation", "width"), [("concat", 192), ("sum", 64)])
def test_features_can_be_put_together_before_one_head(aggregation: str, width: int):
    network = build_network("rostfine", "T", aggregation=aggregation).eval()
    assert network.heads["joint"].in_features == width
    with torch.no_grad():
        found = network(torch.randn(2, 3, 8, 112, 112))
    assert len(found.parts) == 1
    assert len(found.features) == 3


def test_only_the_last_layers_maps_are_computed_in_the_open(monkeypatch: pytest.MonkeyPatch):
    network = build_network("rostfine", "T").eval()
    asked = []
    for block in network.encoder.blocks:
        block.attn.register_forward_hook(lambda _m, args, out: asked.append(0 if out[1] is None else out[1].shape[-2]))
    with torch.no_grad():
        network(torch.randn(1, 3, 8, 112, 112))
    assert asked == [0, 0, 1, 1]  # [CLS] rows of the last two layers


def test_residual_paths_are_left_out_in_training_alone():
    torch.manual_seed(1)
    network = build_network("timesformer", "T", drop_path=0.9)
    for block in network.encoder.blocks:
        torch.nn.init.normal_(block.temporal_fc.weight, std=0.5)
    clips = torch.randn(2, 3, 8, 112, 112)
    with torch.no_grad():
        network.train()
        assert not torch.allclose(network(clips).global_, network(clips).global_)
        network.eval()
        torch.testing.assert_close(network(clips).global_, network(clips).global_)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("lstm",), "no such grading network"),
        (("rostfine", "XL"), "size XL"),
        (("vivit", "T", "authors"), "variant authors"),
        (("rostfine", "T", "paper", {"size_px": 100}), "no multiple of patch_px"),
        (("rostfine", "T", "paper", {"heads": 5}), "no multiple of heads"),
        (("rostfine", "T", "paper", {"selected": 65}), "a frame has 64 patches"),
        (("rostfine", "T", "paper", {"branches": ()}), "branches"),
        (("rostfine", "T", "paper", {"aggregation": "max"}), "aggregation: input should be"),
        (("r3d", "T", "paper", {"patch_px": 8}), "no setting patch_px"),
        (("r3d", "T", "paper", {"network": "i3d"}), "no setting network"),
        (("slowfast", "T", "paper", {"frames": 6}), "multiple of 4"),
        (("r3d", "T", "paper", {"crop_px": 31}), "crop_px 31"),
        (("i3d", "T", "paper", {"size_px": 60, "crop_px": 20}), "looks at 20 px"),
        (("vgg16", "T", "paper", {"motion": True}), "one frame alone"),
        (("vivit", "T", "paper", {"frames": 5, "tubelet_frames": 2}), "no multiple"),
        (("timesformer", "T", "paper", {"frames": 0}), "frames 0"),
        (("rostfine", "T", "paper", {"size_px": "large"}), "size_px: input should be a valid integer"),
        (("rostfine", "T", "paper", {"frames": 2.5}), "frames: input should be a valid integer"),
        (("rostfine", "T", "paper", {"heads": 0}), "heads 0: expected at least 1"),
        (("rostfine", "T", "paper", {"depth": -1}), "depth -1: expected at least 1"),
        (("rostfine", "T", "paper", {"drop_path": 2}), "drop_path 2: expected a share"),
        (("rostfine", "T", "paper", {"branches": ["global", "global"]}), "each once"),
        (("vivit", "T", "paper", {"tubelet_frames": 0}), "no multiple"),
        (("i3d", "T", "paper", {"frames": 1}), "frames 1: expected at least 2"),
    ],
)
def test_what_cannot_be_built_is_one_line(arguments, message: str):
    *plain, overrides = arguments if isinstance(arguments[-1], dict) else (*arguments, {})
    with pytest.raises(InputError, match=message) as caught:
        build_network(*plain, **overrides)
    assert "\n" not in str(caught.value)


def test_the_published_sizes_are_the_papers():
    with torch.device("meta"):  # its shapes alone
        network = build_network("rostfine", "B")
    c = network.config
    assert (c.size_px, c.frames, c.patch_px, c.width, c.depth, c.heads) == (224, 16, 16, 768, 12, 12)
    assert (c.branch_depth, c.branch_heads) == (6, 8)
    assert 121e6 < parameters(network.encoder) < 122e6  # TimeSformer's published 121.4 million
