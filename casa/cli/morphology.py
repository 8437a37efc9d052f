"""``casa morphology``: head crops, or a recording's clips, measured, masked and classed; a table and contact sheets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from casa.morphology.examine import Examined


def morphology(
    images: Annotated[
        Path,
        typer.Argument(
            metavar="IMAGES|RUN.h5",
            help="Folder of head crops (.png, .bmp, .tif, .jpg, MHSMA's arrays), or a recording that kept clips.",
        ),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for morphology.csv and sheet.png.")],
    um_per_px: Annotated[
        float | None,
        typer.Option(help="Scale of the crops; without it, measures are in px. Recordings have their own."),
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="Classifier: a name or file, or 'none'; by default casa's own where it has one.")
    ] = None,
    look: Annotated[
        str | None, typer.Option(help="How the sperm are seen: phase contrast, unstained, stained or Diff-Quik.")
    ] = None,
    rings: Annotated[int, typer.Option(min=1, max=9, help="Layers of the hierarchy of masks (h).")] = 2,
    sheet: Annotated[int, typer.Option(min=0, help="Crops on the contact sheets, evenly picked; 0 for none.")] = 96,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace what an earlier call wrote.")] = False,
) -> None:
    """Find the head in each crop, measure it against the WHO's strict limits, and class it."""
    if images.suffix == ".h5":
        from casa.cli.morphology_run import morphology_of_run

        morphology_of_run(images, output, um_per_px, weights, look, sheet, as_json=as_json, force=force)
        return
    from dataclasses import replace

    import cv2
    import numpy as np

    from casa.cli.output import print_json, refuse_existing
    from casa.errors import CasaError
    from casa.morphology.domain import checked_look, outside
    from casa.morphology.examine import cells, examine, read_crops, write_table
    from casa.morphology.pseudo_masks import HpmOptions
    from casa.morphology.sheet import write_sheets
    from casa.progress import progress

    table = output / "morphology.csv"
    refuse_existing(table if output.is_dir() else output, force)
    look = checked_look(look)
    names, crops = read_crops(images)
    classifier = _classifier(weights)
    cv2.setNumThreads(1)
    with progress("looking at heads", len(crops)) as bar:
        examined = examine(names, crops, um_per_px, classifier, HpmOptions(layers=rings), bar.advance)
    if classifier is not None:
        examined = replace(examined, outside=outside(classifier.entry.knows, um_per_px, look))
    try:
        output.mkdir(exist_ok=True)
    except OSError as error:
        raise CasaError(f"{output}: cannot be made ({error.strerror}); choose another -o") from error
    write_table(table, examined)
    shown = np.unique(np.linspace(0, len(crops) - 1, min(sheet, len(crops))).round().astype(int)) if sheet else []
    caption = f"{images.name}: {len(crops) - examined.reasons.total()} heads in {len(crops)} crops"
    caption += " (outside of what the network knows)" if examined.outside else ""
    sheets = write_sheets(output, cells(examined, [int(k) for k in shown], classifier, um_per_px), caption)
    result = _result(examined, table, sheets, classifier)
    print_json(result) if as_json else _print(result)


def _classifier(weights: str | None) -> Any:
    """The classifier asked for; by default casa's own, or none where casa brings none."""
    from casa.resources import resource_dir
    from casa.weights import read_manifest

    if weights is None:
        weights = "morphology" if "morphology" in read_manifest(resource_dir("models")) else "none"
    if weights == "none":
        return None
    from casa.morphology.model import MorphologyClassifier

    return MorphologyClassifier(weights, threads=1)


def _result(examined: Examined, table: Path, sheets: list[Path], classifier: Any) -> dict[str, Any]:
    import numpy as np

    measures = examined.measures
    known = np.isfinite(measures.ellipticity)
    told = np.isfinite(measures.acrosome_share)

    def median(name: str) -> float | None:
        values = getattr(measures, name)[known]
        return float(np.median(values)) if len(values) and np.isfinite(values).all() else None

    return {
        "crops": len(examined),
        "heads": int(known.sum()),
        "abstained": dict(examined.reasons),
        "median": {name: median(name) for name in ("length_um", "width_um", "length_px", "width_px", "ellipticity")}
        | {"acrosome_share": float(np.median(measures.acrosome_share[told])) if told.any() else None},
        "within_strict_limits": {
            "ellipticity": _share(measures.ellipticity_normal[known]),
            "acrosome": _share(measures.acrosome_normal[told]),
        },
        "classes": {
            part: {name or "unsure": rows.count(name) for name in sorted(set(rows))}
            for part, rows in _decided(examined).items()
            if rows
        },
        "outside": list(examined.outside),
        "weights": None if classifier is None else classifier.entry.name,
        "table": str(table),
        "sheets": [str(path) for path in sheets],
    }


def _decided(examined: Examined) -> dict[str, list[str]]:
    """For each part the classes of the crops in which a head was found."""
    from casa.morphology.pseudo_masks import HeadMask

    heads = [k for k, found in enumerate(examined.found) if isinstance(found, HeadMask)]
    return {part: [rows[k] for k in heads] for part, rows in (examined.decided or {}).items()}


def _share(values: Any) -> float | None:
    return float(values.mean()) if len(values) else None


def _print(result: dict[str, Any]) -> None:
    print(f"heads: {result['heads']} in {result['crops']} crops")
    for reason, count in result["abstained"].items():
        print(f"  none ({reason}): {count}")
    median, within = result["median"], result["within_strict_limits"]
    unit = "um" if median["length_um"] is not None else "px"
    if median[f"length_{unit}"] is not None:
        print(f"median head: {median[f'length_{unit}']:.1f} x {median[f'width_{unit}']:.1f} {unit}, ", end="")
        print(f"length/width {median['ellipticity']:.2f} ({within['ellipticity']:.0%} within 1.5 to 2)")
    if median["acrosome_share"] is not None:
        share = f"{within['acrosome']:.0%} within 40 to 70 %"
        print(f"acrosome: median {median['acrosome_share']:.0%} of the head ({share})")
    for part, counts in result["classes"].items():
        print(f"{part}: " + ", ".join(f"{name} {count}" for name, count in counts.items()))
    for reason in result["outside"] if result["classes"] else ():
        print(f"a guess: {reason}")
    if result["weights"] is None:
        print("not classed: no classifier was given (--weights)")
    print(result["table"])
    for path in result["sheets"]:
        print(path)
