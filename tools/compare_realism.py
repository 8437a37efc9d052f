"""How far simulated pictures are from real ones: histograms by region, and a classifier that tries to tell them apart.

    python tools/compare_realism.py --real CLIP.mp4 --boxes TRACKS.csv.gz --preset default --frames 0:140

Both sides are read from video files (the simulated one is written in the VISEM layout first). Regions: heads (10 px
around head centres), tails (dark or bright lines between 12 and 60 px from a head), background (the rest). For each
the Wasserstein distance (8-bit levels) and the Bhattacharyya coefficient (1 = same) of luma and of gradient
magnitude. The classifier is a small convolutional network on 40x40 patches with a head in the middle, and on
patches of background; cross-validated by blocks of frames, its area under the ROC curve is printed: 0.5 cannot
tell, 1.0 always can.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import tempfile
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from casa.simulate.layout import write_visem_layout
from casa.simulate.scene import PRESETS, simulate

_PATCH = 20
Pictures = list[tuple[NDArray[np.uint8], NDArray[np.float64]]]


def read_video(path: Path, first: int, last: int, every: int) -> list[tuple[int, NDArray[np.uint8]]]:
    import av

    frames = []
    with av.open(str(path)) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index >= last:
                break
            if index >= first and (index - first) % every == 0:
                frames.append((index, frame.to_ndarray(format="rgb24")))
    return frames


def read_centres(path: Path) -> dict[int, NDArray[np.float64]]:
    """Head centres by frame: of VISEM-like tables (cx_px, cy_px) and of MIaMIA's (corners, label S)."""
    opener = gzip.open if path.suffix == ".gz" else open
    found: dict[int, list[tuple[float, float]]] = {}
    with opener(path, "rt") as stream:
        for row in csv.DictReader(stream):
            if row.get("label", "S") != "S":
                continue
            if "cx_px" in row:
                centre = float(row["cx_px"]), float(row["cy_px"])
            else:
                centre = (
                    (float(row["x1_px"]) + float(row["x2_px"])) / 2,
                    (float(row["y1_px"]) + float(row["y2_px"])) / 2,
                )
            found.setdefault(int(float(row["frame"])), []).append(centre)
    return {frame: np.array(centres) for frame, centres in found.items()}


def pictures_of(frames: list[tuple[int, NDArray[np.uint8]]], centres: dict[int, NDArray[np.float64]]) -> Pictures:
    return [(image, recentre(image, centres.get(index, np.empty((0, 2))))) for index, image in frames]


def recentre(image: NDArray[np.uint8], centres: NDArray[np.float64]) -> NDArray[np.float64]:
    """Move each centre to the point within 5 px that differs most from the background: annotators are not exact."""
    luma = cv2.GaussianBlur(image.mean(-1).astype(np.float32), (0, 0), 1.5)
    contrast = np.abs(luma - np.median(luma))
    moved = []
    for cx, cy in centres:
        x, y = round(cx), round(cy)
        if 6 <= x < luma.shape[1] - 6 and 6 <= y < luma.shape[0] - 6:
            dy, dx = np.unravel_index(np.argmax(contrast[y - 5 : y + 6, x - 5 : x + 6]), (11, 11))
            x, y = x + int(dx) - 5, y + int(dy) - 5
        moved.append((x, y))
    return np.array(moved, float).reshape(-1, 2)


def regions(image: NDArray[np.uint8], centres: NDArray[np.float64]) -> dict[str, NDArray[np.bool_]]:
    luma = image.mean(-1).astype(np.float32)
    far = np.full(luma.shape, 1, np.uint8)
    for x, y in centres:
        cv2.circle(far, (round(x), round(y)), 0, 0)
    distance = cv2.distanceTransform(far, cv2.DIST_L2, 5)
    smooth = cv2.GaussianBlur(luma, (0, 0), 1.4)
    xx, yy, xy = (cv2.Sobel(smooth, cv2.CV_32F, *order, ksize=3) for order in ((2, 0), (0, 2), (1, 1)))
    ridge = np.abs((xx + yy) / 2) + np.sqrt((xx - yy) ** 2 / 4 + xy**2)
    line = (ridge > 10) & (distance > 12) & (distance < 60)
    return {"heads": distance <= 10, "tails": line, "background": (distance > 12) & ~line}


def histograms(pictures: Pictures) -> dict[str, dict[str, NDArray[np.float64]]]:
    sums: dict[str, dict[str, NDArray[np.float64]]] = {}
    for image, centres in pictures:
        luma = image.mean(-1).astype(np.float32)
        gradient = np.hypot(cv2.Sobel(luma, cv2.CV_32F, 1, 0), cv2.Sobel(luma, cv2.CV_32F, 0, 1)) / 8
        for name, mask in regions(image, centres).items():
            target = sums.setdefault(name, {"luma": np.zeros(256), "gradient": np.zeros(256), "share": np.zeros(1)})
            target["luma"] += np.histogram(luma[mask], 256, (0, 256))[0]
            target["gradient"] += np.histogram(gradient[mask], 256, (0, 128))[0]
            target["share"] += mask.mean() / len(pictures)
    return sums


def compare_histograms(real: Pictures, simulated: Pictures) -> dict[str, dict[str, float]]:
    a, b = histograms(real), histograms(simulated)
    out: dict[str, dict[str, float]] = {}
    for name in a:
        row = {"share_real": float(a[name]["share"][0]), "share_simulated": float(b[name]["share"][0])}
        for kind, step in (("luma", 1.0), ("gradient", 0.5)):
            p, q = (h[name][kind] / max(h[name][kind].sum(), 1) for h in (a, b))
            row[f"{kind}_wasserstein"] = float(np.abs(np.cumsum(p) - np.cumsum(q)).sum() * step)
            row[f"{kind}_bhattacharyya"] = float(np.sqrt(p * q).sum())
        out[name] = row
    return out


def patches(pictures: Pictures, where: str, per_picture: int, rng: np.random.Generator) -> tuple[NDArray, NDArray]:
    found, groups = [], []
    for number, (image, centres) in enumerate(pictures):
        height, width = image.shape[:2]
        if where == "background":
            candidates = rng.uniform([_PATCH, _PATCH], [width - _PATCH, height - _PATCH], (6 * per_picture, 2))
            if len(centres):
                gap = np.linalg.norm(candidates[:, None] - centres[None], axis=-1).min(1)
                candidates = candidates[gap > 40]
        else:
            candidates = rng.permutation(centres)
        points = np.round(candidates).astype(int)
        inside = ((points >= _PATCH) & (points < np.array([width, height]) - _PATCH)).all(1)
        for x, y in points[inside][:per_picture]:
            found.append(image[y - _PATCH : y + _PATCH, x - _PATCH : x + _PATCH])
            groups.append(number)
    return np.array(found), np.array(groups)


def classifier_auc(
    real: Pictures, simulated: Pictures, where: str, seed: int = 0, epochs: int = 12
) -> dict[str, float]:
    """Area under the curve and accuracy of a small network, five folds by blocks of frames."""
    import torch
    from torch import nn

    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    x_real, g_real = patches(real, where, 14, rng)
    x_sim, g_sim = patches(simulated, where, 14, rng)
    fold_of = [np.floor(5 * g / (g.max() + 1)).astype(int) for g in (g_real, g_sim)]
    x = torch.from_numpy(np.concatenate([x_real, x_sim])).permute(0, 3, 1, 2).float()
    # Standardised: an empty background varies by few levels, and a network must not miss them.
    x = (x - x.mean((0, 2, 3), keepdim=True)) / x.std((0, 2, 3), keepdim=True)
    y = torch.from_numpy(np.repeat([0.0, 1.0], [len(x_real), len(x_sim)])).float()
    fold = np.concatenate(fold_of)
    score = np.zeros(len(y))
    for held in range(5):
        net = nn.Sequential(
            nn.Conv2d(3, 12, 5, stride=2), nn.ReLU(), nn.Conv2d(12, 24, 3, stride=2), nn.ReLU(),
            nn.Conv2d(24, 32, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(128, 1),
        )  # fmt: skip
        optimiser = torch.optim.Adam(net.parameters(), lr=2e-3, weight_decay=1e-4)
        train = torch.from_numpy(np.flatnonzero(fold != held))
        weight = torch.tensor(len(x_real) / max(len(x_sim), 1))
        loss_of = nn.BCEWithLogitsLoss(pos_weight=weight)
        for _ in range(epochs):
            for batch in train[torch.randperm(len(train))].split(64):
                inputs = x[batch]
                if torch.rand(()) < 0.5:
                    inputs = inputs.flip(3)
                if torch.rand(()) < 0.5:
                    inputs = inputs.flip(2)
                optimiser.zero_grad()
                loss_of(net(inputs)[:, 0], y[batch]).backward()
                optimiser.step()
        with torch.no_grad():
            score[fold == held] = torch.sigmoid(net(x[torch.from_numpy(np.flatnonzero(fold == held))])[:, 0]).numpy()
    truth = y.numpy() > 0.5
    ranks = np.argsort(np.argsort(score)) + 1
    n1, n0 = truth.sum(), (~truth).sum()
    auc = (ranks[truth].sum() - n1 * (n1 + 1) / 2) / (n1 * n0)
    balanced = ((score[truth] > 0.5).mean() + (score[~truth] <= 0.5).mean()) / 2
    return {"auc": float(auc), "balanced_accuracy": float(balanced), "n_real": int(n0), "n_simulated": int(n1)}


def simulated_pictures(preset: str, seeds: int, frames_each: int, every: int, cells: float | None) -> Pictures:
    config = replace(PRESETS[preset], n_frames=frames_each)
    if cells is not None:
        config = replace(config, cells_per_frame=cells)
    pictures: Pictures = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(seeds):
            written = write_visem_layout(simulate(config, 1000 + seed), Path(folder), f"s{seed}")
            frames = read_video(written / f"s{seed}.mp4", 0, frames_each, every)
            pictures += pictures_of(frames, read_centres(written / "truth.csv.gz"))
    return pictures


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--real", type=Path, required=True, nargs="+", help="real videos")
    parser.add_argument("--boxes", type=Path, required=True, nargs="+", help="their tables of boxes, in the same order")
    parser.add_argument("--frames", default="0:140", help="first:last of the real frames to use")
    parser.add_argument("--every", type=int, default=4)
    parser.add_argument("--preset", default="default", choices=list(PRESETS))
    parser.add_argument("--cells", type=float, help="heads in a frame, as in the real videos")
    parser.add_argument("--seeds", type=int, default=5, help="simulated scenes, 28 frames each")
    parser.add_argument("--gray", action="store_true", help="compare without colour, as the detector sees them")
    parser.add_argument("--no-classifier", action="store_true")
    options = parser.parse_args()
    first, last = (int(part) for part in options.frames.split(":"))
    real: Pictures = []
    for video, boxes in zip(options.real, options.boxes, strict=True):
        real += pictures_of(read_video(video, first, last, options.every), read_centres(boxes))
    simulated = simulated_pictures(options.preset, options.seeds, 28, options.every, options.cells)
    if options.gray:
        real, simulated = (
            [(np.repeat(image.mean(-1, keepdims=True).astype(np.uint8), 3, -1), centres) for image, centres in side]
            for side in (real, simulated)
        )
    result: dict[str, object] = {"n_real": len(real), "n_simulated": len(simulated)}
    result |= {f"histograms_{name}": row for name, row in compare_histograms(real, simulated).items()}
    if not options.no_classifier:
        for where in ("heads", "background"):
            result[f"classifier_{where}"] = classifier_auc(real, simulated, where)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
