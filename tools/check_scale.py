"""How well `casa calibrate scale` measures rendered micrometers: errors over many random ones, as JSON.

    python tools/check_scale.py --pictures 300

Square-pixel pictures of one direction are compared with the scale across their lines, which is what they show.
"""

from __future__ import annotations

import argparse
import json

import numpy as np

from casa.calibrate.scale import measure_scale
from casa.errors import InputError
from casa.progress import progress
from casa.simulate.micrometer import MicrometerConfig, micrometer_image, random_micrometer


def true_scale(config: MicrometerConfig) -> tuple[float, float]:
    """(x, y) um a px that a measurement of the picture should give; of one direction, the scale across the lines."""
    if config.kind == "grid":
        return config.um_per_px_x, config.um_per_px_y
    turn = np.deg2rad(config.rotation_deg)
    across = float(np.hypot(np.cos(turn) * config.um_per_px_x, np.sin(turn) * config.um_per_px_y))
    return across, across


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=300)
    parser.add_argument("--first-seed", type=int, default=0)
    arguments = parser.parse_args()
    errors, stated, refused, far = [], [], [], []
    with progress("measuring", arguments.pictures) as bar:
        for seed in range(arguments.first_seed, arguments.first_seed + arguments.pictures):
            bar.advance()
            config = random_micrometer(seed)
            try:
                result = measure_scale([micrometer_image(config, seed)], config.pitch_um)
            except InputError:
                refused.append(seed)
                continue
            measured = np.array([result.um_per_px_x, result.um_per_px_y])
            truth = true_scale(config)
            error = float(np.abs(measured / np.array(truth) - 1).max() * 100)
            errors.append(error)
            stated.append(result.uncertainty_percent)
            if error > 0.5:
                far.append({"seed": seed, "error_percent": error, "kind": config.kind})
    error, limit = np.array(errors), np.array(stated)
    print(
        json.dumps(
            {
                "pictures": arguments.pictures,
                "refused": refused,
                "error_percent_median": float(np.median(error)),
                "error_percent_p95": float(np.quantile(error, 0.95)),
                "error_percent_max": float(error.max()),
                "within_0_2_percent": float((error <= 0.2).sum() / arguments.pictures),
                "within_stated_uncertainty": float((error <= limit).mean()),
                "beyond_0_5_percent": far,
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
