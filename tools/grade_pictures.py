"""What the grade network says of simulated sperm, and where it looked: pictures, attention, votes beside prediction.

    python tools/grade_pictures.py -o docs/images/grade-attention.jpg

Rows are simulated clips that were not trained on (another seed), for each grade that most raters gave the one they
agreed on most: four of its pictures, and below them where the network looked. White bars are the votes of 40 simulated
raters, blue ones the network's.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from casa.cells import CLIP_FRAMES, CLIP_SIZE_PX, EXPERT_GRADES, Clip
from casa.grade.model import Grader
from casa.grade.rollout import draw_attention
from casa.simulate.panel_clips import render_panel, simulate_panel

SEED, CLIPS, SHOWN, FRAMES = 4242, 60, 5, 4
_BARS = (250, 2 * CLIP_SIZE_PX)


def clip_of(number: int, images: NDArray[np.uint8]) -> Clip:
    """A simulated clip as the graph gives them."""
    t_ns = np.arange(CLIP_FRAMES, dtype=np.int64) * (10**9 // 15)
    middle = np.full((CLIP_FRAMES, 2), (CLIP_SIZE_PX - 1) / 2)
    sure, nothing = np.ones(CLIP_FRAMES, np.float32), np.zeros(CLIP_FRAMES, np.int64)
    return Clip(number, number, np.arange(CLIP_FRAMES), t_ns, images, middle, sure, nothing)


def bars(votes: NDArray[np.float64], said: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Two bars a grade, (h, w, 3)."""
    width, height = _BARS
    picture = np.full((height, width, 3), 20, np.uint8)
    for k, name in enumerate(EXPERT_GRADES):
        left = 16 + k * (width - 20) // 5
        for value, at, colour in ((votes[k], 0, (215, 215, 215)), (said[k], 19, (205, 140, 60))):
            top = height - 22 - round(float(value) * (height - 34))
            cv2.rectangle(picture, (left + at, top), (left + at + 17, height - 22), colour, -1)
        at_px = (left + 13, height - 6)
        cv2.putText(picture, name, at_px, cv2.FONT_HERSHEY_SIMPLEX, 0.42, (200, 200, 200), 1, cv2.LINE_AA)
    return picture


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--weights", default="grade")
    arguments = parser.parse_args()
    panel, grader = simulate_panel(CLIPS, SEED), Grader(arguments.weights)
    clips = [clip_of(k, images) for k, (images, _) in enumerate(render_panel(CLIPS, SEED, workers=2))]
    said = grader.grade(clips).distribution
    assert len(said) == CLIPS, "the network gave no finite numbers for some clips"
    most, rows = panel.counts.argmax(axis=1), []
    # of each grade the clip on which the raters agree most: not the one on which the network is best
    chosen = [max(np.flatnonzero(most == k), key=lambda n, k=k: panel.distribution[n, k]) for k in set(most.tolist())]
    for number in chosen[:SHOWN]:
        looked = draw_attention(clips[number], grader.attention(clips[number]))[..., ::-1]
        rows.append(np.hstack([looked[:, : FRAMES * CLIP_SIZE_PX], bars(panel.distribution[number], said[number])]))
    cv2.imwrite(str(arguments.output), np.vstack(rows), [cv2.IMWRITE_JPEG_QUALITY, 85])
    print(f"{arguments.output}: {len(rows)} clips; MSE on all {CLIPS}: {np.mean((said - panel.distribution) ** 2):.5f}")


if __name__ == "__main__":
    main()
