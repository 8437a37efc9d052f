"""Heat maps against torchcam on the same network, and what they promise by themselves."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from casa.errors import InputError
from casa.morphology.cbam import CbamEfficientNet
from casa.morphology.gradcam import heat_maps
from casa.morphology.networks import Classifier, Part, SmallEncoder

PARTS = (Part("head", ("normal", "abnormal")), Part("vacuole", ("normal", "abnormal")))


@pytest.fixture
def network() -> Classifier:
    torch.manual_seed(3)
    return Classifier(SmallEncoder(8), PARTS).eval()


def reference(method: str) -> type:
    """torchcam's extractor. Its Grad-CAM++ (0.5.0) divides a copy that a mask made, so that its alpha is never divided:
    the quotient is put where it belongs, and everything else stays torchcam's.
    """
    from torchcam import methods

    class PlusPlus(methods.GradCAMpp):
        def _get_weights(self, class_idx, scores, eps=0.0, **kwargs):
            self._backprop(scores, class_idx, **kwargs)
            weights = []
            for gradient, activation in zip(self.hook_g, self.hook_a, strict=True):
                weight = torch.zeros(gradient.shape[:2])
                for n, c in torch.cartesian_prod(torch.arange(gradient.shape[0]), torch.arange(gradient.shape[1])):
                    g, a = gradient[n, c].double(), activation[n, c].double()
                    below = 2 * g**2 + (a * g**3).sum()
                    weight[n, c] = torch.where(g != 0, g**2 / below, 0.0).mul(g.clamp(min=0)).sum()
                weights.append(weight)
            return weights

    return methods.GradCAM if method == "gradcam" else PlusPlus


@pytest.mark.parametrize("method", ["gradcam", "gradcam++"])
def test_maps_are_those_of_torchcam(network: Classifier, method) -> None:
    x = torch.randn(3, 1, 48, 48, generator=torch.Generator().manual_seed(1))
    outputs = torch.tensor([0, 3, 2])
    layer = network.encoder.stages[-1]
    ours = heat_maps(network, layer, x, outputs, method)
    with reference(method)(network, target_layer=layer) as extractor:
        logits = network(x.clone().requires_grad_(True))
        (cam,) = extractor(outputs.tolist(), logits)
    theirs = F.interpolate(cam[:, None], size=(48, 48), mode="bilinear", align_corners=False)[:, 0]
    assert float(theirs.std()) > 0.05  # the reference has something to say
    torch.testing.assert_close(ours, theirs, atol=2e-4, rtol=1e-3)


def test_a_map_shows_the_place_that_decides() -> None:
    class Corner(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.map = torch.nn.Conv2d(1, 1, 1, bias=False)
            torch.nn.init.ones_(self.map.weight)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.map(x)[:, :, :4, :4].sum((2, 3))

    network = Corner()
    x = torch.zeros(1, 1, 16, 16)
    x[..., :4, :4] = 1
    (found,) = heat_maps(network, network.map, x, torch.tensor([0]))
    assert float(found[:4, :4].min()) == pytest.approx(1)
    assert float(found[6:, 6:].max()) == 0


def test_an_encoder_that_gives_several_maps_is_explained_by_its_coarsest(network: Classifier) -> None:
    x = torch.randn(2, 1, 48, 48, generator=torch.Generator().manual_seed(2))
    outputs = torch.tensor([1, 1])
    whole = heat_maps(network, network.encoder, x, outputs)
    last = heat_maps(network, network.encoder.stages[-1], x, outputs)
    torch.testing.assert_close(whole, last)


def test_a_frozen_network_is_explained_and_left_as_it_was(network: Classifier) -> None:
    frozen = network.requires_grad_(False)
    with torch.no_grad():
        maps = heat_maps(frozen, frozen.encoder, torch.randn(1, 1, 48, 48), torch.tensor([0]), "gradcam")
    assert maps.shape == (1, 48, 48)
    assert 0 <= float(maps.min()) <= float(maps.max()) <= 1 + 1e-6
    assert all(parameter.grad is None for parameter in frozen.parameters())
    assert not frozen.encoder._forward_hooks


def test_attention_networks_are_explained_too() -> None:
    torch.manual_seed(0)
    network = Classifier(CbamEfficientNet(), PARTS).eval()
    maps = heat_maps(network, network.encoder, torch.randn(2, 3, 64, 64), torch.tensor([0, 2]))
    assert maps.shape == (2, 64, 64)
    assert torch.isfinite(maps).all()


def test_an_unknown_method_is_refused(network: Classifier) -> None:
    with pytest.raises(InputError, match=r"scorecam.*gradcam\+\+, gradcam"):
        heat_maps(network, network.encoder, torch.randn(1, 1, 48, 48), torch.tensor([0]), "scorecam")  # type: ignore[arg-type]
