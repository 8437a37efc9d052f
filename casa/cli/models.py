"""``casa models``: what networks are installed. Holds the typer app ``app``: list, verify, install, quantise."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from casa.cli.audit import AuditOption, audit_result
from casa.cli.options import Json

app = typer.Typer(help="The networks that casa brings.", no_args_is_help=True, rich_markup_mode=None)


@app.command("list")
def list_models(as_json: Json = False) -> None:
    """List the networks: task, licence, what they were trained on, scores, files."""
    from casa.cli.output import print_json
    from casa.resources import resource_dir
    from casa.weights import read_manifest

    entries = read_manifest(resource_dir("models"))
    if as_json:
        print_json(
            {
                name: {
                    "task": entry.task,
                    "role": entry.role or None,
                    "licence": entry.licence,
                    "trained_on": entry.trained_on,
                    "command": entry.command,
                    "seed": entry.seed,
                    "scores": entry.scores,
                    "card": str(entry.folder / entry.card) if entry.card else None,
                    "files": {kind: {"path": str(path), "sha256": sha} for kind, (path, sha) in entry.files.items()},
                }
                for name, entry in entries.items()
            }
        )
        return
    for name, entry in entries.items():
        role = ", for --accuracy" if entry.role == "accuracy" else ""
        typer.echo(f"{name}  ({entry.task}{role}, {entry.licence})")
        typer.echo(f"  trained on  {entry.trained_on}")
        typer.echo(f"  made by     {entry.command}, seed {entry.seed}")
        for key, value in entry.scores.items():
            typer.echo(f"  {key:<28}{value:g}")
        for path, _ in entry.files.values():
            typer.echo(f"  {path}")


@app.command("verify")
def verify_models(as_json: Json = False) -> None:
    """Check every network's files against the sums in the manifest; exit code 1 if one is not as published."""
    from casa.cli.output import print_json
    from casa.errors import CasaError
    from casa.resources import resource_dir
    from casa.weights import check_sum, read_manifest

    checked: dict[str, str] = {}
    failures: list[CasaError] = []
    for entry in read_manifest(resource_dir("models")).values():
        for path, sha256 in entry.files.values():
            try:
                check_sum(path, sha256)
                checked[path.name] = "ok"
            except CasaError as error:
                checked[path.name] = str(error)
                failures.append(error)
    if as_json:
        print_json({"files": checked, "ok": not failures})
    else:
        for name, state in checked.items():
            typer.echo(f"{name}: {state if state == 'ok' else 'FAILED'}")
    if failures:
        raise failures[0]


@app.command("install")
def install_model(
    folder: Annotated[Path, typer.Argument(help="Folder that casa train wrote.")],
    name: Annotated[str, typer.Option(help="Network to install.")] = "sperm",
    force: Annotated[bool, typer.Option("--force", help="Replace a network of this name.")] = False,
    audit_log: AuditOption = None,
) -> None:
    """Put a trained network among casa's own, so that it is found by its name."""
    from casa.detect.publish import install
    from casa.errors import InputError
    from casa.resources import resource_dir
    from casa.weights import read_manifest

    target = resource_dir("models")
    before = read_manifest(target).get(name)
    if before is not None and not force:
        raise InputError(f"{target}: has a network named {name} already; --force replaces it")
    install(folder, name, target)
    sums = [
        None if entry is None else {kind: sha256 for kind, (_, sha256) in entry.files.items()}
        for entry in (before, read_manifest(target)[name])
    ]
    audit_result(audit_log, "model", name, folder=str(folder), before=sums[0], after=sums[1])
    typer.echo(f"{name}: installed in {target}")


@app.command("quantise")
def quantise_model(
    folder: Annotated[Path, typer.Argument(help="Folder that casa train wrote; gets the weights and a new manifest.")],
    name: Annotated[str, typer.Option(help="Network to quantise.")] = "sperm",
    real: Annotated[
        Path | None,
        typer.Option(help="Folder of the labelled real clip: its training frames calibrate, its end judges."),
    ] = None,
    sim: Annotated[int, typer.Option(min=0, help="Number of simulated pictures to calibrate on.")] = 60,
    seed: Annotated[int, typer.Option(help="Seed of the simulated pictures.")] = 0,
    force: Annotated[bool, typer.Option("--force", help="Replace 8-bit weights that are there.")] = False,
    as_json: Json = False,
) -> None:
    """Make 8-bit weights of a trained network (needs the extra "quantise"), and judge them beside the float32 ones."""
    from casa.cli.output import print_json
    from casa.cli.train_detector import _scores
    from casa.detect.dataset import clip_images
    from casa.detect.preprocess import to_gray
    from casa.detect.publish import add_file
    from casa.detect.quantise import import_nncf, quantise
    from casa.errors import InputError
    from casa.simulate.training import training_images
    from casa.weights import check_sum, read_manifest

    entry = read_manifest(folder).get(name)
    if entry is None or "onnx" not in entry.files:
        raise InputError(f"{folder}: its manifest has no network named {name}; give a folder that casa train wrote")
    if "int8" in entry.files and not force:
        raise InputError(f"{entry.files['int8'][0]}: is there already; --force replaces it")
    import_nncf()  # that it is missing is told before pictures are made
    source, sha256 = entry.files["onnx"]
    check_sum(source, sha256)
    pictures = [item.image for item in clip_images(real, 0, 139)[::4]] if real else []
    pictures += [to_gray(item[0], 255) for item in training_images(seed + 77, sim)]
    target = source.with_name(f"{source.stem}-int8.onnx")
    quantise(source, target, pictures)
    scores: dict[str, dict[str, float]] = {}
    if real:
        images = clip_images(real, 140, 199)
        scores = {
            kind: {"clip_ap50": _scores(path, images, ["sperm"])["ap50"]}
            for kind, path in (("float32", source), ("int8", target))
        }
    figures = {f"int8_{key}": round(value, 4) for key, value in scores.get("int8", {}).items()}
    add_file(entry, "int8", target, figures)
    if as_json:
        print_json({"weights": str(target), "scores": scores})
        return
    figures_text = "".join(f"; {kind}: AP50 of the clip {of['clip_ap50']:.4f}" for kind, of in scores.items())
    typer.echo(f"{target}: calibrated on {len(pictures)} pictures{figures_text}")
