"""Measure the figures of accuracy that may only get better, and write the better ones into tests/bench/metrics.json.

    python tools/update_metrics.py             measure everything; write what got better, refuse what got worse
    python tools/update_metrics.py detector    only this group: tracker, chain, detector, field
    python tools/update_metrics.py --accept    write worse figures too: say why in the commit
    python tools/update_metrics.py --check     write nothing

Needs the shared recordings beside the checkout (or CASA_SHARED_DATA) for all groups but ``field``.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from casa.bench.defaults import shared_data
from casa.bench.metrics import GROUPS, best_of, is_worse

METRICS = Path(__file__).resolve().parents[1] / "tests" / "bench" / "metrics.json"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("groups", nargs="*", choices=[*GROUPS, []], default=[], help="what to measure; by default all")
    parser.add_argument("--accept", action="store_true", help="write worse figures too")
    parser.add_argument("--check", action="store_true", help="write nothing")
    options = parser.parse_args()
    kept: dict[str, dict[str, float]] = json.loads(METRICS.read_text()) if METRICS.is_file() else {}
    bad = 0
    for group in options.groups or GROUPS:
        old, new = kept.get(group, {}), GROUPS[group](shared_data("."))
        for name, value in new.items():
            was = old.get(name)
            worse = was is not None and is_worse(name, was, value)
            bad += worse
            mark = (
                "new" if was is None else "WORSE" if worse else "same" if value == was else "within tolerance or better"
            )
            print(f"{name}: {'-' if was is None else f'{was:.4f}'} -> {value:.4f}  {mark}", flush=True)
        for name in old.keys() - new.keys():
            print(f"{name}: no longer measured")
        known = {name: value for name, value in old.items() if name in new}
        kept[group] = {name: round(v, 5) for name, v in (new if options.accept else best_of(known, new)).items()}
    if not options.check and (options.accept or not bad):
        METRICS.write_text(json.dumps(kept, indent=2) + "\n")
    elif bad:
        print(
            f"{bad} figures got worse: nothing written (--accept writes them; say why in the commit)", file=sys.stderr
        )
    return 1 if bad and not options.accept else 0


if __name__ == "__main__":
    sys.exit(main())
