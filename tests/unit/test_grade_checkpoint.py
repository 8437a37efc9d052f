"""Published weights by key map, casa's own files, and what is said of those that do not fit."""

from pathlib import Path

import pytest
import torch

from casa.errors import InputError
from casa.grade.build import NETWORKS, build_network
from casa.grade.checkpoints import load_network, load_published, save_network

HEADS = {"rostfine": ("heads.",), "timesformer": ("head.",), "vivit": ("head.",)}


def official(classes: int = 400, **sizes) -> dict[str, torch.Tensor]:
    """A checkpoint as the TimeSformer program writes it, of a small network: names from its published files."""
    network = build_network("timesformer", "T", **sizes)
    state = {f"model.{key.removeprefix('encoder.')}": value.clone() for key, value in network.state_dict().items()}
    state["model.head.weight"], state["model.head.bias"] = torch.randn(classes, 64), torch.randn(classes)
    return state


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "weights.pyth"


@pytest.mark.parametrize("name", ["timesformer", "rostfine"])
def test_an_official_checkpoint_is_taken_whole(path: Path, name: str):
    state = official()
    torch.save({"model_state": state, "epoch": 3}, path)
    network = build_network(name, "T")
    report = load_published(network, path)
    for key, value in state.items():
        if not key.startswith("model.head"):
            assert torch.equal(network.state_dict()[report.taken[key]], value)
    assert len(report.taken) + len(report.left_out) == len(state)
    assert set(report.left_out) == {"model.head.weight", "model.head.bias"}
    assert set(report.taken.values()) | set(report.fresh) == set(network.state_dict())
    assert all(not key.startswith("encoder.") for key in report.fresh)
    assert any(line.startswith("not in the file, learned anew") for line in report.lines())


def test_the_authors_timesformer_is_told_from_the_official_one(path: Path):
    inner = {f"model.{key}": value for key, value in official(classes=5).items()}
    head = torch.randn(5, 64)
    torch.save({**inner, "head.weight": head, "head.bias": torch.zeros(5)}, path)
    network = build_network("timesformer", "T")
    report = load_published(network, path)
    assert torch.equal(network.head.weight, head)
    assert set(report.left_out) == {"model.model.head.weight", "model.model.head.bias"}
    assert report.fresh == []
    begun = load_published(build_network("rostfine", "T"), path)  # its encoder, for RoSTFine to begin with
    assert set(begun.left_out) == {*report.left_out, "head.weight", "head.bias"}
    assert {key.partition(".")[0] for key in begun.fresh} == {"spatial", "temporal", "heads"}


def test_places_and_times_are_interpolated_and_said(path: Path):
    state = official(size_px=56, frames=4)
    state["model.time_embed"] = torch.arange(4.0)[None, :, None].expand(1, 4, 64).clone()
    torch.save({"model_state": state}, path)
    network = build_network("timesformer", "T")
    report = load_published(network, path)
    assert report.resized == {
        "model.pos_embed": "4 x 4 places to 8 x 8, bicubic",
        "model.time_embed": "4 times to 8, linearly",
    }
    own = network.encoder.requires_grad_(False)
    assert torch.equal(own.pos_embed[:, 0], state["model.pos_embed"][:, 0])  # the place of [CLS] is kept
    assert own.time_embed[0, :, 0].diff().min() >= 0
    assert own.time_embed[0, :, 0].mean().item() == pytest.approx(1.5)
    assert "4 times to 8" in " ".join(report.lines())


def break_keys(state: dict[str, torch.Tensor], how: str) -> None:
    if how == "missing":
        del state["model.blocks.2.attn.qkv.weight"]
    elif how == "unknown":
        state["model.blocks.9.attn.qkv.weight"] = torch.zeros(192, 64)
    else:
        state["model.norm.weight"] = torch.zeros(65)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("missing", r"1 missing \(encoder.blocks.2.attn.qkv.weight\)"),
        ("unknown", r"1 unknown \(model.blocks.9.attn.qkv.weight\)"),
        ("shape", r"1 of another shape \(encoder.norm.weight \(65,\), not \(64,\)\)"),
    ],
)
def test_keys_that_do_not_fit_are_one_line(path: Path, how: str, message: str):
    state = official()
    break_keys(state, how)
    torch.save({"model_state": state}, path)
    network = build_network("timesformer", "T")
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with pytest.raises(InputError, match=message) as caught:
        load_published(network, path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such weights file"),
        (b"not a file of tensors" * 20, "not a readable weights file"),
        ([1, 2], "expected a dictionary"),
        ({"epoch": 3}, "holds no network's tensors"),
        ({"model_state": {"conv1.weight": torch.zeros(3)}}, "no key has blocks.0.attn.qkv.weight"),
        ({"mhsa_s.0.proj.bias": torch.zeros(3), "model.model.blocks.0.attn.qkv.weight": torch.zeros(3)},
         "variant authors"),
    ],
)  # fmt: skip
def test_files_that_are_no_weights_are_one_line(path: Path, content, message: str):
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(InputError, match=message) as caught:
        load_published(build_network("rostfine", "T"), path)
    assert "\n" not in str(caught.value)


def test_a_file_that_would_run_code_is_refused(path: Path):
    torch.save({"model_state": official(), "hook": print}, path)
    with pytest.raises(InputError, match="not a readable weights file"):
        load_published(build_network("timesformer", "T"), path)


@pytest.mark.parametrize("name", ["r3d", "r2plus1d", "x3d", "i3d", "slowfast"])
def test_pytorchvideos_networks_are_the_published_ones(path: Path, name: str):
    """Keys and shapes of pytorchvideo's own builders with their published settings, of 400 classes."""
    from importlib import import_module

    build_network(name, "T")  # pytorchvideo warns when it is first imported
    hub = import_module("pytorchvideo.models.hub")
    builder = {
        "r3d": "slow_r50",
        "r2plus1d": "r2plus1d_r50",
        "x3d": "x3d_m",
        "i3d": "i3d_r50",
        "slowfast": "slowfast_r50",
    }
    with torch.device("meta"):
        published = getattr(hub, builder[name])(pretrained=False).state_dict()
        network = build_network(name, "B")
    own = {key.removeprefix("net."): tuple(value.shape) for key, value in network.state_dict().items()}
    found = {key: tuple(value.shape) for key, value in published.items()}
    differ = {key for key in own.keys() | found.keys() if own.get(key) != found.get(key)}
    assert len(differ) == 2
    assert all(key.endswith(("proj.weight", "proj.bias")) for key in differ)
    assert {found[key][0] for key in differ} == {400}


@pytest.mark.parametrize("prefix", ["", "model."])
def test_a_convolutional_checkpoint_leaves_its_classes_out(path: Path, prefix: str):
    network = build_network("x3d", "T")
    state = {prefix + key.removeprefix("net."): value + 1 for key, value in network.state_dict().items()}
    state[f"{prefix}blocks.5.proj.weight"] = torch.zeros(400, state[f"{prefix}blocks.5.proj.weight"].shape[1])
    state[f"{prefix}blocks.5.proj.bias"] = torch.zeros(400)
    torch.save({"model_state": state}, path)
    report = load_published(network, path)
    assert set(report.left_out.values()) == {"of 400 classes, not 5 grades"}
    assert set(report.fresh) == {"net.blocks.5.proj.weight", "net.blocks.5.proj.bias"}


def test_torchvisions_vgg16_is_the_published_one():
    from torchvision.models import vgg16

    with torch.device("meta"):
        own, published = build_network("vgg16", "B").state_dict(), vgg16().state_dict()
    differ = {key for key, value in published.items() if own[f"net.{key}"].shape != value.shape}
    assert differ == {"classifier.6.weight", "classifier.6.bias"}


def test_vivit_checkpoints_are_taken_with_their_programs_names(path: Path):
    network = build_network("vivit", "T")
    state = {f"model.{k}": v + 1 for k, v in network.state_dict().items() if not k.startswith("head.")}
    state |= {"cls_head.weight": torch.zeros(400, 72), "cls_head.bias": torch.zeros(400)}
    assert "model.transformer_layers.0.layers.0.ffns.0.layers.0.0.weight" in state
    torch.save({"state_dict": state}, path)
    report = load_published(network, path)
    assert set(report.fresh) == {"head.weight", "head.bias"}
    assert len(report.taken) == len(state) - 2


@pytest.mark.parametrize("name", NETWORKS)
def test_own_files_give_the_same_network_back(tmp_path: Path, name: str):
    network = build_network(name, "T", frames=4).eval()
    save_network(network, tmp_path / "own.pt", {"trained_on": "nothing", "seed": 3})
    again, about = load_network(tmp_path / "own.pt")
    assert (again.name, again.size, again.variant, again.config) == (name, "T", "paper", network.config)
    assert about == {"trained_on": "nothing", "seed": 3}
    clips = torch.randn(1, 3, 4, 112, 112)
    with torch.no_grad():
        assert torch.equal(network(clips).distribution, again(clips).distribution)
    load_published(build_network(name, "T", frames=4), tmp_path / "own.pt")


def test_own_files_of_another_network_or_none_are_refused(tmp_path: Path):
    save_network(build_network("vivit", "T"), tmp_path / "own.pt")
    with pytest.raises(InputError, match="holds vivit T, and rostfine T was asked for"):
        load_published(build_network("rostfine", "T"), tmp_path / "own.pt")
    content = torch.load(tmp_path / "own.pt", weights_only=True)
    torch.save(content | {"state": {}}, tmp_path / "empty.pt")
    with pytest.raises(InputError, match=r"keys do not fit vivit T: \d+ missing"):
        load_network(tmp_path / "empty.pt")
    torch.save({key: value for key, value in content.items() if key != "config"}, tmp_path / "cut.pt")
    with pytest.raises(InputError, match="config"):
        load_network(tmp_path / "cut.pt")
    torch.save({"model_state": official()}, tmp_path / "official.pt")
    with pytest.raises(InputError, match="where a training starts"):
        load_network(tmp_path / "official.pt")
