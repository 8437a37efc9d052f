"""Train grade networks on the same clips at an equal budget, and put them side by side.

    python tools/compare_grades.py -o runs/compare                       the paper's Table 2, at size T
    python tools/compare_grades.py -o runs/k --ablation k                K; or alpha, branches, aggregation
    python tools/compare_grades.py CLIPS -o runs/clinic --seeds 5        on a clinic's own clips

Every network sees every clip of the training part the same number of times (the configuration's epochs), with the same
optimiser, rate and augmentation. A comparison that was broken off goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np

from casa.cli.train_grade import graded_clips
from casa.errors import CasaError, InputError
from casa.grade.compare import ABLATIONS, TABLE_2, compare, markdown
from casa.grade.experiment import chosen_folds, new_network, run_folds
from casa.grade.train import GradeTrainConfig, load_grade_config


def variants(base: GradeTrainConfig, ablation: str | None) -> dict[str, GradeTrainConfig]:
    """The configurations to compare, by name: ``base`` with what makes each."""
    changes = ABLATIONS[ablation] if ablation else {name: change for name, (change, _) in TABLE_2.items()}
    configs = {}
    for name, change in changes.items():
        network = change.get("network", base.network)
        transformer = network in ("rostfine", "timesformer", "vivit")
        own = {k: v for k, v in base.options.items() if transformer or k != "patch_px"}
        if network == "vgg16":  # the paper's lower bound: it sees one frame alone
            own.pop("motion", None)
        if network != "rostfine":
            own = {k: v for k, v in own.items() if k not in ("selected", "branch_depth", "branch_heads")}
        options = own | change.get("options", {})
        data = (
            base.model_dump()
            | change
            | {"options": options, "whiten": base.whiten and network != "vivit" and transformer}
        )
        configs[name] = GradeTrainConfig.model_validate(data)
    return configs


def buildable(configs: dict[str, GradeTrainConfig]) -> dict[str, GradeTrainConfig]:
    """Those whose network there can be, with a word on the others: a small picture has no 20 patches to choose from."""
    kept = {}
    for name, config in configs.items():
        try:
            new_network(config, 0)
        except InputError as error:
            print(f"{name}: left out: {error}", file=sys.stderr, flush=True)
            continue
        kept[name] = config
    return kept


def main() -> None:
    """Train what is missing, then compare all that is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, help="clips and votes; without it the simulated panel")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for runs and tables")
    parser.add_argument("--config", type=Path, default=Path("configs/grade/compare.yaml"))
    parser.add_argument("--ablation", choices=sorted(ABLATIONS))
    parser.add_argument("--only", nargs="*", default=None, help="only these rows, by name")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=None)
    arguments = parser.parse_args()
    base = load_grade_config(arguments.config, {"epochs": arguments.epochs})
    rows = variants(base, arguments.ablation)
    unknown = sorted(set(arguments.only or ()) - set(rows))
    if unknown:
        parser.error(f"--only {unknown[0]}: expected some of {', '.join(rows)}")
    chosen = buildable({name: config for name, config in rows.items() if name in (arguments.only or rows)})
    dataset = graded_clips(arguments.folder, base, arguments.output)
    if not dataset.simulated:  # of real clips nothing is known but their votes
        chosen = {name: config.model_copy(update={"facts_weight": 0.0}) for name, config in chosen.items()}
    runs: dict[str, list] = {}
    for seed in range(arguments.seeds):  # all networks once, then all again: a part of it is a comparison too
        for name, config in chosen.items():
            place = arguments.output / f"{''.join(c if c.isalnum() else '-' for c in name)}-{seed}"
            began = time.monotonic()
            runs.setdefault(name, []).append(run_folds(config, dataset, seed, place))
            print(f"{name}, seed {seed}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
        tested = np.concatenate([fold.test for fold in chosen_folds(base, dataset, 0)])
        comparison = compare(runs, dataset.select(tested).fresh_panel_mse())
        (arguments.output / "table.md").write_text(markdown(comparison) + "\n", encoding="utf-8")
        details = {row.name: {"mse": row.mse_of_runs, "values": row.values} for row in comparison.rows}
        (arguments.output / "table.json").write_text(json.dumps(details, indent=2) + "\n", encoding="utf-8")
    print((arguments.output / "table.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    try:
        main()
    except CasaError as error:
        raise SystemExit(f"casa: {error}") from None
