"""The pictures of docs/quality.md: a simulated control series and a simulated agreement study. No real data.

python tools/quality_pictures.py
"""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import numpy as np

from casa.qc.charts import bland_altman_chart, levey_jennings, passing_bablok_chart
from casa.qc.evaluate import evaluate
from casa.qc.page import study
from casa.qc.pairs import Pairs
from casa.qc.series import Run

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"


def series() -> list[Run]:
    """Sixty days: twenty for the baseline, quiet days, a slow drift with one day far off, then another network."""
    rng = np.random.default_rng(7)
    values = rng.normal(55, 1.6, 60)
    values[34:46] += np.linspace(0.3, 3.6, 12)
    values[31] = 61.2
    values[46:] += 2.4
    first = date(2026, 3, 2)
    return [
        Run(
            day + 1, (first + timedelta(days=day)).isoformat(), "",
            {"network": "sperm" if day < 46 else "sperm-accurate"}, {"pr_percent": float(value)},
        )
        for day, value in enumerate(values)
    ]  # fmt: skip


def pairs() -> Pairs:
    """Sixty samples by a technician, and by an instrument that gives 8 % more."""
    rng = np.random.default_rng(3)
    truth = rng.uniform(4, 85, 60)
    first = np.round(truth + rng.normal(0, 3.2, 60)).clip(0, 100)
    second = np.round(1.08 * truth + rng.normal(0, 2.4, 60), 1).clip(0, 100)
    return Pairs("pr_percent", "technician", "casa", (), first, second)


def beside(left: str, right: str, width: float = 460, height: float = 420) -> str:
    """Two charts as one picture."""
    parts = [chart.partition(">")[2].rpartition("</svg>")[0] for chart in (left, right)]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {2 * width:g} {height:g}" width="{2 * width:g}" '
        f'height="{height:g}" font-family="Helvetica, Arial, sans-serif"><g>{parts[0]}</g>'
        f'<g transform="translate({width:g} 0)">{parts[1]}</g></svg>\n'
    )


def main() -> None:
    (IMAGES / "quality-control.svg").write_text(levey_jennings(evaluate(series())[0]), encoding="utf-8")
    found = study(pairs())
    assert found.regression is not None
    left, right = (
        bland_altman_chart(found.pairs, found.bland_altman),
        passing_bablok_chart(found.pairs, found.regression),
    )
    (IMAGES / "quality-agreement.svg").write_text(beside(left, right), encoding="utf-8")


if __name__ == "__main__":
    main()
