"""RoSTFine with the authors' program's own figures: outputs, features and selected patches of the same weights.

About 25 s on one core, most of it the two clips in float64.
"""

import json
from pathlib import Path

import pytest
import torch

from casa.grade.build import build_network
from casa.grade.checkpoints import load_published


@pytest.fixture(scope="module")
def reference(request: pytest.FixtureRequest) -> dict:
    folder: Path = request.getfixturevalue("shared_data")
    return json.loads((folder / "rostfine_reference" / "authors_forward.json").read_text())


@pytest.fixture(scope="module")
def weights(reference: dict) -> dict[str, torch.Tensor]:
    """The tensors that the reference's recipe makes."""
    made = {}
    for number, (key, shape) in enumerate(sorted(reference["shapes"].items())):
        generator = torch.Generator().manual_seed(number)
        made[key] = torch.randn(shape, generator=generator, dtype=torch.float64) * 0.05
        if "norm" in key and key.endswith("weight"):
            made[key] += 1
    return made


@pytest.fixture(scope="module")
def clips() -> torch.Tensor:
    generator = torch.Generator().manual_seed(12345)
    return torch.randn((2, 3, 8, 224, 224), generator=generator, dtype=torch.float64)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-8), (torch.float32, 1e-4)], ids=["f64", "f32"])
def test_the_authors_variant_gives_the_authors_outputs(reference, weights, clips, tmp_path, dtype, tolerance):
    torch.save(weights, tmp_path / "authors.pt")
    network = build_network("rostfine", "B", "authors").to(dtype).eval()
    report = load_published(network, tmp_path / "authors.pt")
    with torch.inference_mode():
        found = network(clips.to(dtype))
    assert found.selected.tolist() == reference["selected_patches"]
    for name in ("global_", "spatial", "temporal"):
        expected = torch.tensor(reference["outputs"][name], dtype=torch.float64)
        distribution = getattr(found, name).softmax(-1).double()
        torch.testing.assert_close(distribution, expected, atol=tolerance, rtol=0)
    torch.testing.assert_close(found.distribution.double(), torch.tensor(reference["mean"], dtype=torch.float64),
                               atol=tolerance, rtol=0)  # fmt: skip
    for feature, name in zip(found.features, ("global_", "spatial", "temporal"), strict=True):
        norms = torch.tensor(reference["feature_norms"][name], dtype=torch.float64)
        torch.testing.assert_close(feature.norm(dim=-1).double(), norms, atol=tolerance * 30, rtol=0)
    # Each key is accounted for: all taken, but for the head inside their TimeSformer, which their program does not use.
    assert report.left_out == dict.fromkeys(
        ["model.model.head.bias", "model.model.head.weight"], "not used by the network"
    )
    assert len(report.taken) + len(report.left_out) == len(weights)
    assert report.fresh == []
    assert report.resized == {}
