"""Make the validation dossier (docs/validation/*.md) from docs/results.md, tests/bench/metrics.json and its own tables.

python tools/validation_dossier.py             writes the pages; run it whenever docs/results.md has changed
python tools/validation_dossier.py --history   also reads from git how figures moved from weights to weights

Numbers are looked up, never typed: a claim whose row or sentence is not in docs/results.md any more stops the tool, and
`tests/unit/test_validation_dossier.py` holds that the pages are what it would write.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "validation"
HISTORY = FOLDER / "history.csv"
_MADE = "<!-- made by `python tools/validation_dossier.py`: change claims.toml, datasets.toml or docs/results.md -->\n"
#: Figures of the detector's manifest entry and of the metrics that are followed over time, with their names.
_FOLLOWED = {
    "clip_ap50": "heads, same slide (AP50)",
    "miamia_S_0001_ap50": "heads, MIaMIA S_0001 (AP50)",
    "miamia_S_0002_ap50": "heads, MIaMIA S_0002 (AP50)",
    "miamia_S_0004_ap50": "heads, MIaMIA S_0004 (AP50)",
    "njit_60fps_ap_5px": "heads, NJIT (AP within 5 px)",
    "field.vsl.error_percent": "VSL of a simulated field (mean error, %)",
    "field.vcl_from_40.error_percent": "VCL of a simulated field (mean error, %)",
    "field.concentration.error_percent": "concentration of a simulated field (error, %)",
    "field.grades_right_percent": "grades right in a simulated field (% of time)",
}
#: Claims of the same figure in and out of domain are compared by how much worse they are outside: M_in - M_out.
_GAP_UNITS = ("AP50",)


_ABOUT = {
    "verification": """\
V3, first part: does each computation do what its definition says? Checked against definitions written a second time,
other programs, published worked examples, and simulations whose truth is exact. No patient is involved, and nothing
here says that a figure is right on a real slide.""",
    "analytical": """\
V3, second part: from pixels to figures, how far from a reference measurement? The references here are boxes and tracks
drawn by people, and simulations; no figure has been compared with a laboratory's own count of the same slide.""",
}
_ABOUT_DATA = """\
By the criteria of a review of data quality in sperm images: size and diversity of donors, slides and laboratories, how
alike pictures were taken, who labelled them and whether annotators agree, balance of classes, resolution, and whether
the same thing lies on both sides of a split. What a set lacks, no figure measured on it can show."""
_ABOUT_SETS = """\
Figures as the build holds them (`tests/bench/metrics.json`; fewer frames than in docs/results.md, so they differ by
some hundredths). The gap is what is lost outside of the data trained on: M_in - M_out, of the same figure."""
_ABOUT_LABORATORIES = """\
There is one real recording with tracks and one other laboratory with boxes. Leave-one-laboratory-out, the usual test of
a network that is to work elsewhere, needs at least three; it has not been done."""
_ABOUT_TIME = """\
Of the program: every change of the shipped weights' scores or of the build's metrics, from the project's history,
which is short. A figure that became worse stands here too."""
_ABOUT_MONTHS = """\
Of the data: none. All recordings were taken once; how a laboratory's pictures drift over months (lamp, focus, lots of
chambers, staff) cannot be seen in them. That is what a control series is for (`casa qc`, [quality.md](../quality.md)):
the same control every day, charts with limits, and an alarm. A series is broken and marked where network, settings or
scale change, and says what the change did to the mean."""


class Missing(Exception):
    """A number that a claim names is not where it says."""


class Results:
    """docs/results.md, by section."""

    def __init__(self, text: str) -> None:
        self._sections: dict[str, list[str]] = {}
        heading = ""
        for line in text.splitlines():
            if line.startswith("#"):
                heading = line.lstrip("#").strip()
            self._sections.setdefault(heading, []).append(line)

    def _lines(self, section: str) -> list[str]:
        for heading, lines in self._sections.items():
            if heading.startswith(section):
                return lines
        raise Missing(f"docs/results.md has no section {section!r}")

    def sentence(self, section: str, pattern: str) -> str:
        """The group of a pattern, in a section's text without its tables, spaces and line ends alike."""
        text = " ".join(line for line in self._lines(section) if not line.startswith("|"))
        found = re.search(pattern.replace(r"\s+", " "), text)
        if found is None:
            raise Missing(f"section {section!r} has no text like {pattern!r}")
        return plain(found[1])

    def cell(self, section: str, row: str, column: str) -> str:
        """The cell of the first table of a section with a row that begins so and a column that says so."""
        for head, rows in tables(self._lines(section)):
            at = next((i for i, name in enumerate(head) if column in name), None)
            if at is None:
                continue
            for cells in rows:
                first = cells[0].lstrip("`")
                if first == row or (len(row) > 1 and first.startswith(row.lstrip("`"))):
                    return cells[at]
        raise Missing(f"section {section!r} has no table with a row {row!r} and a column {column!r}")


def tables(lines: list[str]) -> Iterator[tuple[list[str], list[list[str]]]]:
    """The tables of markdown lines: head and rows, of plain cells."""
    group: list[list[str]] = []
    for line in [*lines, ""]:
        if line.startswith("|"):
            group.append([plain(cell) for cell in line.strip().strip("|").split("|")])
        elif group:
            yield group[0], group[2:]
            group = []


def plain(text: str) -> str:
    """A cell or sentence without bold face and stray spaces."""
    return " ".join(text.replace("**", "").split())


def metric(metrics: Mapping[str, Any], name: str) -> float:
    """A figure of tests/bench/metrics.json by ``group.name``."""
    group, _, key = name.partition(".")
    try:
        return float(metrics[group][key])
    except KeyError:
        raise Missing(f"tests/bench/metrics.json has no {name!r}") from None


def result_of(claim: Mapping[str, Any], results: Results) -> str:
    """The number of a claim, in words."""
    where = claim["result"]
    try:
        if "stated" in where:
            return str(where["stated"])
        if "text" in where:
            return results.sentence(where["section"], where["text"])
        rows = where["row"] if isinstance(where["row"], list) else [where["row"]]
        found = [results.cell(where["section"], row, where["column"]) for row in rows]
    except Missing as error:
        raise Missing(f"{claim['what']}: {error}; correct docs/validation/claims.toml") from error
    return str(where.get("words", "{}")).format(", ".join(found))


def claims_page(part: str, title: str, claims: list[Any], results: Results, names: Mapping[str, str]) -> str:
    """The page of one part: a table with a row a claim."""
    lines = [_MADE, f"# {title}", "", _ABOUT[part], ""]
    lines += ["| figure | checked against | on | result | not shown by this |", "|---|---|---|---|---|"]
    for claim in claims:
        if claim["part"] == part:
            on = ", ".join(f"[{names[key]}](datasets.md)" for key in claim["on"]) or "published numbers"
            row = (claim["what"], claim["against"], on, result_of(claim, results), claim["open"] or "–")
            lines.append(f"| {' | '.join(row)} |")
    lines += ["", "How each number is made (`$D` is `../shared/data`; capitals stand for files):", ""]
    lines += [f"- {claim['what']}: `{claim['command']}`" for claim in claims if claim["part"] == part]
    return "\n".join([*lines, ""])


def datasets_page(datasets: Mapping[str, Any], claims: list[Any]) -> str:
    """The page of the data sets."""
    lines = [
        _MADE,
        "# The data that figures were checked on",
        "",
        _ABOUT_DATA,
    ]
    for key, one in datasets.items():
        used = [claim["what"] for claim in claims if key in claim["on"]]
        lines += ["", f"## {one['name'][:1].upper()}{one['name'][1:]}", ""]
        lines += ["| | |", "|---|---|"]
        lines += [f"| {name} | {one[name]} |" for name in ("what", "size", "truth", "licence", "lacks")]
        lines.append(f"| used for | {'; '.join(used) or 'training and development only'} |")
    return "\n".join([*lines, ""])


def robustness_page(
    claims: list[Any], metrics: Mapping[str, Any], names: Mapping[str, str], history: list[dict[str, str]]
) -> str:
    """The page on data sets and time."""
    lines = [
        _MADE,
        "# Robustness: over data sets, and over time",
        "",
        "## Over data sets",
        "",
        _ABOUT_SETS,
        "",
        "| figure | on | value | gap |",
        "|---|---|---|---|",
    ]
    inside: dict[str, float] = {}
    for claim in claims:
        robust = claim.get("robust")
        if robust is None:
            continue
        keys = robust["metrics"] if isinstance(robust["metrics"], list) else [robust["metrics"]]
        for key in keys:
            value = metric(metrics, key)
            if robust.get("inside"):
                inside[robust["figure"]] = value
            gap = "–"
            if robust["unit"] in _GAP_UNITS and robust["figure"] in inside and not robust.get("inside"):
                gap = f"{inside[robust['figure']] - value:.2f}"
            part = next((p for p in key.split(".") if p.startswith("S_")), "")
            on = " ".join(filter(None, (names[claim["on"][0]], part)))
            lines.append(f"| {robust['figure']} ({robust['unit']}) | {on} | {value:.3g} | {gap} |")
    lines += [
        "",
        _ABOUT_LABORATORIES,
        "",
        "## Over time",
        "",
        _ABOUT_TIME,
        "",
    ]
    if history:
        lines += history_table(history)
    lines += ["", _ABOUT_MONTHS, ""]
    return "\n".join(lines)


def history_table(history: list[dict[str, str]]) -> list[str]:
    """Values by date, a column a change, the newest last."""
    times = list(dict.fromkeys(row["utc"] for row in history))
    value = {(row["utc"], row["figure"]): row["value"] for row in history}
    lines = [f"| figure | {' | '.join(times)} |", f"|---|{'---|' * len(times)}"]
    for figure in _FOLLOWED.values():
        cells = [value.get((at, figure), "") for at in times]
        if any(cells):
            lines.append(f"| {figure} | {' | '.join(cells)} |")
    return lines


def read_history() -> list[dict[str, str]]:
    """The rows of history.csv; none without it."""
    if not HISTORY.is_file():
        return []
    with HISTORY.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def history_from_git() -> list[dict[str, str]]:
    """Followed figures after every commit that changed one, oldest first."""
    rows: list[dict[str, str]] = []
    seen: dict[str, str] = {}
    paths = ("models/manifest.toml", "tests/bench/metrics.json")
    log = _git("log", "--reverse", "--format=%h %cd", "--date=format:%Y-%m-%d %H:%M", "--", *paths)
    for line in log.splitlines():
        commit, utc = line.split(" ", 1)
        found: dict[str, float] = {}
        manifest = _git("show", f"{commit}:{paths[0]}")
        if manifest:
            found |= tomllib.loads(manifest).get("models", {}).get("sperm", {}).get("scores", {})
        metrics = _git("show", f"{commit}:{paths[1]}")
        if metrics:
            found |= json.loads(metrics).get("field", {})
        for key, name in _FOLLOWED.items():
            if key in found and seen.get(key) != (value := f"{found[key]:.4g}"):
                rows.append({"utc": utc, "commit": commit, "figure": name, "value": value})
                seen[key] = value
    return rows


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else ""


def pages() -> dict[str, str]:
    """Every page of the dossier by its file's name."""
    claims = tomllib.loads((FOLDER / "claims.toml").read_text(encoding="utf-8"))["claims"]
    datasets = tomllib.loads((FOLDER / "datasets.toml").read_text(encoding="utf-8"))
    results = Results((ROOT / "docs" / "results.md").read_text(encoding="utf-8"))
    metrics = json.loads((ROOT / "tests" / "bench" / "metrics.json").read_text(encoding="utf-8"))
    names = {key: one["name"] for key, one in datasets.items()}
    for claim in claims:
        if unknown := [key for key in claim["on"] if key not in names]:
            raise Missing(f"{claim['what']}: datasets.toml has no {unknown[0]!r}")
    return {
        "verification.md": claims_page("verification", "Verification", claims, results, names),
        "analytical.md": claims_page("analytical", "Analytical validation", claims, results, names),
        "datasets.md": datasets_page(datasets, claims),
        "robustness.md": robustness_page(claims, metrics, names, read_history()),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--history", action="store_true", help="read the history of figures from git anew")
    if parser.parse_args().history:
        rows = history_from_git()
        with HISTORY.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    try:
        made = pages()
    except Missing as error:
        print(f"validation_dossier: {error}", file=sys.stderr)
        return 1
    for name, page in made.items():
        (FOLDER / name).write_text(page, encoding="utf-8")
        print(f"docs/validation/{name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
