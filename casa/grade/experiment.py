"""From a configuration and graded clips to trained networks and their scores, fold by fold.

A folder gets, for each fold, its weights (``fold0.pt``), what it said of the clips it had not seen (``fold0.csv``) and,
while it is trained, its state; ``training.json`` says whose they are. Called again with the same configuration, clips
and seed it goes on where it was.
"""

from __future__ import annotations

import csv
import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from casa.cells import EXPERT_GRADES
from casa.errors import CasaError, InputError
from casa.grade.build import build_network
from casa.grade.checkpoints import load_network, load_published, save_network
from casa.grade.folds import Fold, check_folds, grouped_folds, inner_split
from casa.grade.prepare import gray_pictures
from casa.grade.scores import bootstrap_intervals, scores, share_of_way
from casa.grade.train import EpochLog, GradeTrainConfig, Samples, as_input, last_layers, predict, train_network
from casa.types import FloatArray, IntArray

if TYPE_CHECKING:
    from casa.grade.data import ClipDataset

#: Columns of a fold's predictions.
PREDICTION_COLUMNS = ("clip", *(f"found_{g}" for g in EXPERT_GRADES), *(f"true_{g}" for g in EXPERT_GRADES))


@dataclass(frozen=True, slots=True)
class FoldResult:
    """What a fold's network said of clips it had not seen. ids (n,); found, true (n, 5); prior (5,): the mean
    distribution of the clips trained on; cpu_s that training took, since it was last gone on with.
    """

    number: int
    ids: tuple[str, ...]
    found: FloatArray
    true: FloatArray
    prior: FloatArray
    cpu_s: float = 0.0


def run_folds(
    config: GradeTrainConfig,
    dataset: ClipDataset,
    seed: int,
    folder: Path,
    after_epoch: Callable[[int, EpochLog], None] = lambda _fold, _log: None,
) -> list[FoldResult]:
    """Train a network on each fold of ``config`` and judge it; with ``folds: 0`` one on all clips, judged on none.

    Raises
    ------
    InputError : ``folder`` holds another training, or values do not fit. CasaError : it cannot be written.
    """
    if config.calibrate and not config.inner_share:
        raise InputError("calibrate: needs clips put aside to judge on; set inner_share above 0")
    network, folds = new_network(config, seed), chosen_folds(config, dataset, seed)
    _claim(folder, config, dataset, seed)
    samples = samples_of(dataset, network, config.augment.shift_px)
    results = []
    for fold in folds:
        weights, table = folder / f"fold{fold.number}.pt", folder / f"fold{fold.number}.csv"
        base_rate = dataset.distribution[fold.train].mean(axis=0)
        if weights.exists() and table.exists():
            results.append(read_predictions(table, fold.number, base_rate, load_network(weights)[1]["cpu_s"]))
            continue
        state = folder / f"fold{fold.number}.state.pt"
        learned, aside = fold.train, None
        if config.inner_share:
            learned, put_aside = inner_split(fold.train, dataset.groups, config.inner_share, seed)
            aside = pick(samples, put_aside)
        network, start = new_network(config, seed), time.process_time()
        if config.whiten and config.start is None:
            whiten_patches(network, samples.pictures[learned])
        network = train_network(
            network, config, pick(samples, learned), seed, state, aside,
            lambda log, number=fold.number: after_epoch(number, log),
        )  # fmt: skip
        if config.calibrate and aside is not None:
            calibrate(network, aside, base_rate)
        cpu_s = time.process_time() - start
        found = predict(network, samples.pictures[fold.test]) if len(fold.test) else np.empty((0, len(EXPERT_GRADES)))
        ids = tuple(str(dataset.ids[k]) for k in fold.test)
        result = FoldResult(fold.number, ids, found, dataset.distribution[fold.test], base_rate, cpu_s)
        save_network(network, weights, about(config, dataset, seed, fold) | {"cpu_s": cpu_s})
        write_predictions(table, result)
        state.unlink(missing_ok=True)
        results.append(result)
    return results


def about(config: GradeTrainConfig, dataset: ClipDataset, seed: int, fold: Fold) -> dict[str, Any]:
    """What is kept with weights: what they were trained on, and how."""
    return {
        "trained_on": dataset.name,
        "simulated": dataset.simulated,
        "clips": len(fold.train),
        "prior": dataset.distribution[fold.train].mean(axis=0).tolist(),
        "loss": config.loss,
        "alpha": config.alpha,
        "epochs": config.epochs,
        "seed": seed,
        "fold": fold.number if len(fold.test) else -1,
    }


def chosen_folds(config: GradeTrainConfig, dataset: ClipDataset, seed: int) -> list[Fold]:
    """The folds that ``config`` asks for."""
    check_folds(config.folds, config.only_folds)
    if config.folds == 0:
        return [Fold(0, np.arange(len(dataset)), np.empty(0, np.int64))]
    folds = grouped_folds(dataset.majority, dataset.groups, config.folds, config.fold_seed)
    wanted = config.only_folds if config.only_folds is not None else tuple(range(config.folds))
    return [folds[number] for number in wanted]


def new_network(config: GradeTrainConfig, seed: int) -> Any:
    """The network as its training begins: from the seed alone, or from ``config.start``."""
    torch.manual_seed(seed)
    network = build_network(config.network, config.size, config.variant, **config.options)
    if config.start is None:
        return network
    try:
        started, _ = load_network(config.start)
    except InputError:
        load_published(network, config.start)  # says what is wrong where it is neither
        return network
    if started.name != network.name or started.config != network.config:
        raise InputError(f"{config.start}: is of another network than the configuration's; start from one of the same")
    return started


def whiten_patches(network: Any, pictures: torch.Tensor, n_clips: int = 200) -> None:
    """Begin a transformer's patch embedding (E of Eq. 1) as the principal components of patches, each of variance 1.

    Learned from scratch, an embedding is led by how bright a field is, which says nothing of a sperm.

    Raises
    ------
    InputError : the network cuts no patches from single frames.
    """
    encoder = getattr(network, "encoder", None)
    if not hasattr(encoder, "patch_embed"):
        raise InputError(f"whiten: {network.name} has no patch embedding to begin with; set it to false")
    projection, size = encoder.patch_embed.proj, network.config.patch_px  # type: ignore[union-attr]
    chosen = pictures[torch.linspace(0, len(pictures) - 1, min(n_clips, len(pictures))).long()].float()
    seen = network.config.seen(as_input(chosen))[:, :, ::2].transpose(1, 2).flatten(0, 1)
    patches = torch.nn.functional.unfold(seen, size, stride=size).transpose(1, 2).reshape(-1, 3 * size * size)
    values, vectors = torch.linalg.eigh(torch.cov(patches.T))
    wanted = min(len(projection.weight), len(values))
    filters = (vectors[:, -wanted:] / values[-wanted:].clamp_min(1e-6).sqrt()).flip(1).T  # (wanted, 3 * size * size)
    with torch.no_grad():
        projection.weight[:wanted] = filters.view(wanted, 3, size, size)
        projection.bias[:wanted] = -filters @ patches.mean(dim=0)


def calibrate(network: Any, aside: Samples, base_rate: FloatArray) -> float:
    """Draw a network's predictions towards the prior ``base_rate`` (5,) as far as suits clips it was not trained on.

    Each part becomes p^c prior^(1 - c), normalised, with the c in [0, 1] of the least MSE of the parts' mean; gives c.
    What comes of it lies in the heads: the network stays what it is. A network trained on few clips is too sure.
    """
    log_prior = torch.from_numpy(np.log(np.maximum(base_rate, 1e-4))).float()
    network.eval()
    with torch.inference_mode():
        batches = [network(as_input(batch.float())).parts for batch in aside.pictures.split(32)]
    logits = torch.stack([torch.cat(part).cpu() for part in zip(*batches, strict=True)])  # (parts, n, 5)
    shares = np.linspace(0, 1, 41)
    drawn = [(c * logits.log_softmax(-1) + (1 - c) * log_prior).softmax(-1).mean(0) for c in map(float, shares)]
    best = float(shares[int(np.argmin([float((d - aside.true).square().mean()) for d in drawn]))])
    with torch.no_grad():
        for head in last_layers(network):
            head.weight.mul_(best)
            head.bias.mul_(best).add_((1 - best) * log_prior.to(head.bias))
    return best


def samples_of(dataset: ClipDataset, network: Any, shift_px: int = 0, block: int = 64) -> Samples:
    """All clips as ``network`` takes them; of one that looks at the middle, that and ``shift_px`` around it."""
    frames, size_px = network.config.frames, network.config.size_px
    kept_px = min(size_px, network.config.seen_px + 2 * shift_px)
    first = (size_px - kept_px) // 2
    kept = slice(first, first + kept_px)
    pictures = torch.empty((len(dataset), frames, kept_px, kept_px), dtype=torch.float16)
    for k in range(0, len(dataset), block):
        prepared = gray_pictures(dataset.images[k : k + block], frames, size_px)
        pictures[k : k + block] = torch.from_numpy(prepared[..., kept, kept])
    return Samples(pictures, torch.from_numpy(dataset.distribution).float(), _facts(dataset))


def _facts(dataset: ClipDataset) -> torch.Tensor | None:
    """Qualities and defects of simulated clips, (n, k) of mean 0 and sd 1; None of real ones. Votes are no facts."""
    if not dataset.simulated:
        return None
    columns = [
        values
        for name, values in dataset.covariates.items()
        if not name.startswith("expected_") and np.isfinite(values).all() and np.std(values) > 0
    ]
    if not columns:
        return None
    table = np.stack(columns, axis=1)
    return torch.from_numpy((table - table.mean(axis=0)) / table.std(axis=0)).float()


def pick(samples: Samples, rows: IntArray) -> Samples:
    """Some of the clips."""
    return Samples(
        samples.pictures[rows], samples.true[rows], samples.facts[rows] if samples.facts is not None else None
    )


def judge(
    found: FloatArray, true: FloatArray, base_rate: FloatArray, fresh_panel_mse: float | None = None
) -> dict[str, Any]:
    """Scores of predictions beside those of the prior ``base_rate`` (5,), with 95 % bootstrap intervals over clips.

    ``gain_percent`` is how much lower the MSE is than the prior's; ``share_of_way`` how much of the way from the
    prior's MSE to that of a fresh panel was gone (None where clips are not simulated).
    """
    own, of_prior = scores(found, true), scores(np.tile(base_rate, (len(true), 1)), true)
    way = share_of_way(own["mse"], of_prior["mse"], fresh_panel_mse) if fresh_panel_mse is not None else None
    return {
        "clips": len(true),
        **own,
        "interval_95": bootstrap_intervals(found, true),
        "prior": {name: of_prior[name] for name in ("mse", "js", "ba_mean")},
        "gain_percent": 100 * (1 - own["mse"] / of_prior["mse"]),
        "fresh_panel_mse": fresh_panel_mse,
        "share_of_way": way,
    }


def judge_folds(results: Sequence[FoldResult], dataset: ClipDataset) -> dict[str, Any] | None:
    """Each fold's scores, and the mean and sd over folds as in the paper's tables; None where nothing was judged."""
    judged = [result for result in results if len(result.ids)]
    if not judged:
        return None
    rows = {str(name): row for row, name in enumerate(dataset.ids)}
    folds = []
    for result in judged:
        fresh = dataset.select(np.array([rows[name] for name in result.ids])).fresh_panel_mse()
        folds.append({"fold": result.number, **judge(result.found, result.true, result.prior, fresh)})
    names = [*scores(judged[0].true, judged[0].true), "gain_percent"]
    values = {name: [fold[name] for fold in folds] for name in names}
    return {
        "mean": {name: float(np.mean(v)) for name, v in values.items()},
        "sd": {name: float(np.std(v, ddof=1)) if len(v) > 1 else None for name, v in values.items()},
        "folds": folds,
    }


def write_predictions(path: Path, result: FoldResult) -> None:
    """Write ``PREDICTION_COLUMNS``, a row a clip."""
    try:
        with path.open("w", encoding="utf-8", newline="") as stream:
            table = csv.writer(stream)
            table.writerow(PREDICTION_COLUMNS)
            for name, found, true in zip(result.ids, result.found, result.true, strict=True):
                table.writerow([name, *(f"{v:.9g}" for v in [*found, *true])])
    except OSError as error:
        raise CasaError(f"{path}: cannot be written ({error.strerror})") from error


def read_predictions(path: Path, number: int, base_rate: FloatArray, cpu_s: float = 0.0) -> FoldResult:
    """What ``write_predictions`` wrote."""
    with path.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.reader(stream))[1:]
    values = np.array([[float(cell) for cell in row[1:]] for row in rows]).reshape(len(rows), 2 * len(EXPERT_GRADES))
    found, true = np.split(values, 2, axis=1)
    return FoldResult(number, tuple(row[0] for row in rows), found, true, base_rate, cpu_s)


def _claim(folder: Path, config: GradeTrainConfig, dataset: ClipDataset, seed: int) -> None:
    """Make ``folder`` this training's, or see that it is. A training that has no weights yet has no claim."""
    digest = hashlib.sha256(dataset.counts.tobytes() + "".join(map(str, dataset.ids)).encode()).hexdigest()
    own = {"config": json.loads(config.model_dump_json(exclude={"only_folds"})), "seed": seed, "clips": digest}
    path = folder / "training.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if path.exists():
            try:
                same = json.loads(path.read_text(encoding="utf-8")) == own
            except ValueError:
                same = False
            if not same and any(folder.glob("fold*.pt")):
                raise InputError(
                    f"{folder}: holds a training of another configuration, seed or set of clips; choose another -o, "
                    "or --force to replace it"
                )
        path.write_text(json.dumps(own, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise CasaError(f"{folder}: cannot be written ({error.strerror})") from error
