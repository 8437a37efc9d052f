"""Confidences of a detector fitted anew, so that they are probabilities on ordinary simulated fields.

Training fits them on its own wide pictures and on frames trained on, where a network is surer than elsewhere. This
fits slope and offset of the logit on fields of the simulator's presets, which no training sees, and writes the
network to a new folder:

    python tools/recalibrate_detector.py sperm -o recalibrated
    casa models quantise recalibrated --name sperm --real CLIP
    casa models install recalibrated --name sperm --force

The order of detections, and so average precision, stays what it was.
"""

from __future__ import annotations

import argparse
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np

from casa.config import DetectConfig
from casa.detect import network
from casa.detect.augment import LabelledImage
from casa.detect.confidence import fit_confidence
from casa.detect.load import load_detector
from casa.detect.preprocess import to_gray
from casa.resources import resource_dir
from casa.simulate.scene import PRESETS, Scene
from casa.types import Frame
from casa.weights import file_sha256, read_manifest, write_manifest

FIELDS = ("default", "dense", "brightfield", "sparse", "fast")
SEEDS = (901, 902)
FRAMES = range(0, 200, 40)


def fields() -> list[LabelledImage]:
    """Pictures of the presets' fields and the boxes of the heads in them."""
    images = []
    for name in FIELDS:
        for seed in SEEDS:
            scene = Scene(replace(PRESETS[name], n_frames=FRAMES.stop), seed)
            truth = scene.truth()
            for index in FRAMES:
                frame = scene.frame(index)
                assert isinstance(frame, Frame)
                rows = (truth.frame == index) & (truth.field == 0)
                centre = np.stack([truth.cx_px[rows], truth.cy_px[rows]], axis=1)
                half = np.stack([truth.w_px[rows], truth.h_px[rows]], axis=1) / 2
                boxes = np.concatenate([centre - half, centre + half], axis=1)
                images.append(LabelledImage(to_gray(frame.image, 255), boxes, np.zeros(len(boxes), np.int64)))
    return images


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="network of models/manifest.toml")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder to write")
    arguments = parser.parse_args()
    folder = resource_dir("models")
    entry = read_manifest(folder)[arguments.name]
    detector = load_detector(DetectConfig(weights=arguments.name, confidence=0.02, int8=False))
    slope, offset = fit_confidence(detector, fields())
    detector.close()
    model, architecture, classes = network.load_state(entry.files["state"][0])
    network.scale_logits(model, slope, offset)
    arguments.output.mkdir(parents=True, exist_ok=True)
    onnx, state = (arguments.output / entry.files[kind][0].name for kind in ("onnx", "state"))
    network.export_onnx(model, classes, onnx)
    network.save_state(model, architecture, classes, state)
    files = {"onnx": (onnx, file_sha256(onnx)), "state": (state, file_sha256(state))}
    card = arguments.output / entry.card
    shutil.copyfile(folder / entry.card, card)
    text = card.read_text(encoding="utf-8")
    for kind, (_, sha256) in files.items():
        text = text.replace(entry.files[kind][1], sha256)
    card.write_text(text, encoding="utf-8")
    write_manifest(arguments.output, {entry.name: replace(entry, folder=arguments.output, files=files)})
    print(f"{arguments.output}: logits of {entry.name} times {slope:.3f}, plus {offset:.3f}")


if __name__ == "__main__":
    main()
