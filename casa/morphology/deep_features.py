"""Deep features, principal components and a support vector machine (CBAM-ResNet50's way), kept as plain arrays.

scikit-learn fits; what is kept and used afterwards is numbers alone, never a pickled object.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from casa.errors import CasaError, InputError
from casa.morphology.probabilities import softmax
from casa.types import FloatArray, IntArray


@dataclass(frozen=True, slots=True, eq=False)
class FeatureClassifier:
    """Standardised features, their principal components, and one-against-rest machines with a Gaussian kernel.

    Parameters
    ----------
    mean, sd : (d,) of the training features. components : (m, d), centre : (d,) of the principal components.
    support : (s, m) support vectors of all machines. weights : (k, s), 0 where a vector is not a machine's own.
    bias : (k,). gamma : of the kernel exp(-gamma |a - b|^2). slope, shift : (k,) of Platt's probabilities.
    """

    mean: FloatArray
    sd: FloatArray
    centre: FloatArray
    components: FloatArray
    support: FloatArray
    weights: FloatArray
    bias: FloatArray
    gamma: FloatArray
    slope: FloatArray
    shift: FloatArray

    def reduced(self, features: NDArray[np.floating]) -> FloatArray:
        """(n, m) principal components of (n, d) features."""
        if features.ndim != 2 or features.shape[1] != len(self.mean):
            raise InputError(f"features of shape {features.shape}: expected (n, {len(self.mean)})")
        return ((features - self.mean) / self.sd - self.centre) @ self.components.T

    def decision(self, features: NDArray[np.floating]) -> FloatArray:
        """(n, k) distance to each machine's margin; positive: of the class."""
        x = self.reduced(features)
        squared = (x**2).sum(1)[:, None] + (self.support**2).sum(1) - 2 * x @ self.support.T
        return np.exp(-float(self.gamma) * np.maximum(squared, 0)) @ self.weights.T + self.bias

    def probabilities(self, features: NDArray[np.floating]) -> FloatArray:
        """(n, k) in [0, 1], adding up to 1."""
        return softmax(self.decision(features) * self.slope + self.shift)

    def save(self, path: Path) -> None:
        """Write an .npz of arrays."""
        try:
            with path.open("wb") as stream:
                np.savez(stream, **{f.name: getattr(self, f.name) for f in fields(self)})
        except OSError as error:
            raise CasaError(f"{path}: cannot be written ({error.strerror})") from error

    @classmethod
    def load(cls, path: Path) -> FeatureClassifier:
        """Read what ``save`` wrote.

        Raises
        ------
        InputError : it is missing, no such file, or holds something else.
        """
        try:
            with np.load(path, allow_pickle=False) as data:
                return cls(**{f.name: np.asarray(data[f.name], np.float64) for f in fields(cls)})
        except (OSError, ValueError, KeyError) as error:
            raise InputError(f"{path}: not a feature classifier of casa ({' '.join(str(error).split())})") from error


def fit_features(
    features: NDArray[np.floating],
    labels: IntArray,
    n_classes: int,
    components: int = 64,
    cost: float = 10.0,
    seed: int = 0,
) -> FeatureClassifier:
    """Fit on (n, d) features: standardise, keep ``components`` principal ones, one machine a class.

    Probabilities come from one temperature, fitted on decisions made in five folds (no crop's own machine).

    Raises
    ------
    InputError : a class has fewer than two crops, or a feature is no number.
    """
    from sklearn.decomposition import PCA
    from sklearn.model_selection import StratifiedKFold
    from sklearn.svm import SVC

    from casa.morphology.probabilities import fit_temperature

    counts = np.bincount(labels[labels >= 0], minlength=n_classes)
    if counts.min() < 2:
        raise InputError(
            f"class {int(counts.argmin())} has {int(counts.min())} labelled crops; a machine needs 2 or more"
        )
    if not np.isfinite(features).all():
        raise InputError("some features are no finite numbers; the network is broken")
    known = labels >= 0
    x, y = np.asarray(features, np.float64)[known], labels[known]
    mean, sd = x.mean(axis=0), x.std(axis=0) + 1e-9
    pca = PCA(min(components, *x.shape), svd_solver="full", random_state=seed).fit((x - mean) / sd)
    z = pca.transform((x - mean) / sd)
    gamma = 1.0 / (z.shape[1] * max(float(z.var()), 1e-12))

    def machines(rows: NDArray[Any]) -> list[Any]:
        make = lambda: SVC(C=cost, gamma=gamma, class_weight="balanced", random_state=seed)  # noqa: E731
        return [make().fit(z[rows], y[rows] == k) for k in range(n_classes)]

    held_out = np.zeros((len(y), n_classes))
    folds = StratifiedKFold(min(5, int(counts.min())), shuffle=True, random_state=seed)
    for fit_on, rest in folds.split(z, y):
        held_out[rest] = np.stack([machine.decision_function(z[rest]) for machine in machines(fit_on)], axis=1)
    slope = 1.0 / fit_temperature(held_out, y)
    final = machines(np.arange(len(y)))
    used = sorted({int(i) for machine in final for i in machine.support_})
    place = {row: column for column, row in enumerate(used)}
    weights = np.zeros((n_classes, len(used)))
    for k, machine in enumerate(final):
        weights[k, [place[int(i)] for i in machine.support_]] = machine.dual_coef_[0]
    bias = np.array([float(machine.intercept_[0]) for machine in final])
    ones = np.ones(n_classes)
    return FeatureClassifier(
        mean,
        sd,
        pca.mean_,
        np.asarray(pca.components_),
        z[used],
        weights,
        bias,
        np.array(gamma),
        ones * slope,
        ones * 0.0,
    )


def deep_features(model: Any, images: NDArray[np.uint8], batch: int = 32) -> NDArray[np.float32]:
    """(n, d) what a ``Classifier``'s last layer sees of n crops."""
    import torch

    from casa.morphology.crops import to_tensor

    model.eval()
    with torch.no_grad():
        x = to_tensor(images, model.encoder.channels)
        return torch.cat([model.features(part) for part in x.split(batch)]).numpy()
