"""Head classifiers as they are used: weights files, classes, heat maps on the head, pretrained encoders by path."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from casa.errors import InputError
from casa.morphology.cbam import Attention, CbamEfficientNet, freeze
from casa.morphology.crops import Crops
from casa.morphology.model import ModelInfo, MorphologyClassifier, has_head, write_model
from casa.morphology.networks import Classifier, Part, Segmenter, SmallEncoder, build_encoder, load_pretrained
from casa.morphology.soft_tuning import TuneConfig, tune
from casa.morphology.train import Run, Schedule
from casa.simulate.heads import render_heads

PARTS = (Part("class", ("normal", "tapered", "small")),)


def weights_file(path: Path, parts: tuple[Part, ...] = PARTS, leaning: tuple[int, ...] = (), **over) -> Path:
    """Two untrained networks; ``leaning``: the class that each of them says by itself, the second more surely."""
    torch.manual_seed(0)
    info = ModelInfo(
        encoder="small",
        width=8,
        parts=tuple((part.name, part.classes) for part in parts),
        temperatures=(1.5,) * len(parts),
        views=((0.0, False), (0.0, True)),
        dilations=4,
        **over,
    )
    networks = [Classifier(SmallEncoder(8), parts) for _ in range(2)]
    for k, (network, output) in enumerate(zip(networks, leaning, strict=False)):
        network.head.bias.data[output] += 1 + 2 * k
    write_model(path, info, networks, Segmenter(SmallEncoder(8)))
    return path


@pytest.fixture
def crops() -> np.ndarray:
    return render_heads(6, "mhsma", seed=3).images


def test_probabilities_of_each_part_add_up_and_a_crop_without_a_head_has_none(tmp_path: Path, crops) -> None:
    parts = (Part("head", ("normal", "abnormal")), Part("vacuole", ("normal", "abnormal")))
    classifier = MorphologyClassifier(str(weights_file(tmp_path / "w.pt", parts)))
    assert classifier.class_names == ("head:normal", "head:abnormal", "vacuole:normal", "vacuole:abnormal")
    flat = np.full((64, 64), 90, np.uint8)
    p = classifier.classify([*crops, flat])
    assert p.shape == (7, 4)
    assert has_head(p).tolist() == [True] * 6 + [False]
    assert p[:6, :2].sum(axis=1) == pytest.approx(np.ones(6))
    assert p[:6, 2:].sum(axis=1) == pytest.approx(np.ones(6))
    assert classifier.normal(p)["vacuole"][:6] == pytest.approx(p[:6, 2])
    decided = classifier.decide(p)
    assert decided["head"][6] == -1
    assert (decided["head"][:6] >= 0).all()
    assert (classifier.decide(p, abstain_below=0.99)["head"] == -1).all()


def test_turning_a_crop_changes_its_classes_little(tmp_path: Path) -> None:
    """HPM turns every crop to face right before it is classed."""
    classifier = MorphologyClassifier(str(weights_file(tmp_path / "w.pt")))
    crops = render_heads(12, "hushem", seed=5).images
    turned = [np.ascontiguousarray(np.rot90(crop)) for crop in crops]
    a, b = classifier.classify(list(crops), um_per_px=0.085), classifier.classify(turned, um_per_px=0.085)
    seen = has_head(a) & has_head(b)
    assert seen.sum() >= 10
    assert np.median(np.abs(a - b)[seen].max(axis=1)) < 0.02


def test_a_heat_map_lies_on_the_head(tmp_path: Path) -> None:
    classifier = MorphologyClassifier(str(weights_file(tmp_path / "w.pt")))
    made = render_heads(6, "hushem", seed=1)
    turned_alike = []
    for image, head in zip(made.images, made.head, strict=True):
        heat = classifier.heat_map(image, um_per_px=made.um_per_px, class_name="tapered")
        assert heat is not None
        assert heat.shape == image.shape[:2]
        assert 0 <= heat.min() <= heat.max() <= 1
        y, x = np.nonzero(head)
        far = np.hypot(*(np.indices(head.shape) - np.array([y.mean(), x.mean()])[:, None, None])) > 58
        assert heat[far].max(initial=0) == 0  # beyond the view (48 px of 0.125 um, cornerwise) nothing was looked at
        turned = classifier.heat_map(np.ascontiguousarray(np.rot90(image)), um_per_px=0.085, class_name="tapered")
        assert turned is not None
        turned_alike.append(float(np.abs(np.rot90(heat) - turned).mean()))
    assert np.median(turned_alike) < 0.03
    assert classifier.heat_map(np.full((64, 64), 90, np.uint8)) is None
    with pytest.raises(InputError, match=r"no class called 'odd'.*normal, tapered, small"):
        classifier.heat_map(made.images[0], class_name="odd")


def test_a_heat_map_is_of_the_class_that_all_networks_decide_on(tmp_path: Path) -> None:
    classifier = MorphologyClassifier(str(weights_file(tmp_path / "w.pt", leaning=(1, 2))))
    made = render_heads(4, "hushem", seed=2)
    for image in made.images:
        said = int(classifier.classify([image], um_per_px=made.um_per_px)[0].argmax())
        assert said == 2
        heats = [classifier.heat_map(image, um_per_px=made.um_per_px, class_name=c) for c in classifier.class_names]
        by_itself = classifier.heat_map(image, um_per_px=made.um_per_px)
        assert [bool(np.array_equal(heat, by_itself)) for heat in heats] == [k == said for k in range(3)]


@pytest.mark.parametrize(
    "crop", [np.zeros((64, 64), np.uint16), np.zeros((64, 64, 4), np.uint8), np.zeros(64, np.uint8)], ids=str
)
def test_what_is_no_crop_is_refused(tmp_path: Path, crop: np.ndarray) -> None:
    classifier = MorphologyClassifier(str(weights_file(tmp_path / "w.pt")))
    with pytest.raises(InputError, match=r"expected \(h, w\) or \(h, w, 3\) of uint8"):
        classifier.classify([crop])


def test_no_crops_give_no_rows(tmp_path: Path) -> None:
    assert MorphologyClassifier(str(weights_file(tmp_path / "w.pt"))).classify([]).shape == (0, 3)


def test_weights_that_are_damaged_or_not_ours_are_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.pt"
    torch.save({"state": torch.zeros(2)}, other)
    with pytest.raises(InputError, match="not weights of casa's head classifier"):
        MorphologyClassifier(str(other))
    whole = weights_file(tmp_path / "w.pt")
    whole.write_bytes(whole.read_bytes()[:2000])
    with pytest.raises(InputError, match="not weights of casa's head classifier"):
        MorphologyClassifier(str(whole))
    with pytest.raises(InputError, match="no such morphology network"):
        MorphologyClassifier("nobody")


# Encoders and pretrained weights


@pytest.mark.parametrize("name", ["densenet201", "efficientnet-b0", "cbam-efficientnet-b0", "cbam-resnet50"])
def test_encoders_read_torchvisions_weights_by_path_key_by_key(tmp_path: Path, name: str) -> None:
    from torchvision import models

    bare = name.removeprefix("cbam-").replace("-", "_")
    torch.manual_seed(1)
    source = getattr(models, bare)(weights=None)
    path = tmp_path / "imagenet.pth"
    torch.save(source.state_dict(), path)
    encoder = build_encoder(name)
    anew = load_pretrained(encoder, path)
    assert all(key.startswith("attention.") for key in anew)
    assert bool(anew) == name.startswith("cbam")
    own, given = encoder.state_dict(), source.state_dict()
    assert {key for key in given if key not in own} == {k for k in given if k.startswith(("classifier.", "fc."))}
    for key in own:
        if key not in anew:
            torch.testing.assert_close(own[key], given[key])
    x = torch.randn(2, 3, 64, 64)
    maps = encoder.eval()(x)
    assert [m.shape[1] for m in maps] == list(encoder.widths)
    assert [m.shape[-1] for m in maps] == [32, 16, 8, 4, 2]
    if not anew and name == "densenet201":  # the same numbers as torchvision's own forward
        torch.testing.assert_close(maps[-1], source.eval().features(x), atol=1e-4, rtol=1e-4)


def test_densenet_files_of_before_2018_are_read_too(tmp_path: Path) -> None:
    encoder = build_encoder("densenet201")
    old = {
        "features." + key.replace("norm1.", "norm.1.").replace("conv2.", "conv.2.")
        if "denselayer" in key
        else "features." + key: v
        for key, v in encoder.features.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    torch.save(old | {"classifier.weight": torch.zeros(1)}, tmp_path / "old.pth")
    assert load_pretrained(build_encoder("densenet201"), tmp_path / "old.pth") == []


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "x.pth")
    with pytest.raises(InputError, match="not the weights of this encoder"):
        load_pretrained(build_encoder("efficientnet-b0"), tmp_path / "x.pth")
    with pytest.raises(InputError, match="no encoder called 'vgg'"):
        build_encoder("vgg")
    with pytest.raises(InputError, match="8, 16, 24"):
        build_encoder("small", 12)


def test_attention_weighs_between_nothing_and_all() -> None:
    torch.manual_seed(0)
    attention = Attention(32)
    x = torch.rand(2, 32, 6, 6)
    out = attention(x)
    assert out.shape == x.shape
    assert ((out >= 0) & (out <= x)).all()


def test_a_frozen_encoder_learns_by_its_attention_alone() -> None:
    encoder = CbamEfficientNet()
    freeze(encoder)
    free = [name for name, parameter in encoder.named_parameters() if parameter.requires_grad]
    assert free
    assert all(name.startswith("attention.") for name in free)
    model = Classifier(encoder, PARTS)
    before = {name: value.clone() for name, value in encoder.features.state_dict().items()}
    images = np.random.default_rng(0).integers(0, 255, (4, 32, 32)).astype(np.uint8)
    columns = np.zeros((4, 1), np.int64), np.full((4, 1), -1, np.int64), np.ones(4, bool)
    quick = TuneConfig(schedule=Schedule(epochs=1, batch=4), dilations=None)
    tune(model, Crops(images, images, *columns), None, quick, Run())
    for name, value in encoder.features.state_dict().items():  # statistics too
        torch.testing.assert_close(value, before[name], atol=0, rtol=0)
    freeze(encoder, False)
    assert all(parameter.requires_grad for parameter in encoder.parameters())
