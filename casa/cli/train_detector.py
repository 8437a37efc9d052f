"""``casa train``: training networks. Holds the typer app ``app`` with ``casa train detector``."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from casa.cli.options import Json, Threads

if TYPE_CHECKING:
    from collections.abc import Sequence

    from casa.detect.augment import LabelledImage
    from casa.detect.train import TrainConfig
    from casa.weights import ModelEntry

app = typer.Typer(help="Train casa's networks.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def _group() -> None:
    """Keep ``detector`` a subcommand while it is the only one."""


@app.command("detector")
def train_detector(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for weights, manifest and model card.")],
    config: Annotated[
        Path | None, typer.Option("--config", help="Training configuration (YAML); by default the shipped detector's.")
    ] = None,
    real: Annotated[
        Path | None, typer.Option(help="Folder of the labelled real clip (clip.mp4, tracks.csv.gz).")
    ] = None,
    data_name: Annotated[
        str, typer.Option(help="What the real clip is and by whom, for the model card; needed with --real.")
    ] = "",
    data_licence: Annotated[
        str, typer.Option(help="The real clip's licence, or 'not published'; needed with --real.")
    ] = "",
    routes: Annotated[
        Path | None,
        typer.Option(help="Folder of real label tables (visem_tracking_labels): simulated heads lie where those did."),
    ] = None,
    sim: Annotated[int | None, typer.Option(min=0, help="Number of simulated pictures.")] = None,
    start: Annotated[
        str | None,
        typer.Option(help="What to go on from: a detector's name (sperm), or training.pt of a run; the same network."),
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the pictures.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    threads: Threads = 0,
    force: Annotated[bool, typer.Option("--force", help="Replace weights that are there.")] = False,
    as_json: Json = False,
) -> None:
    """Train the sperm detector on simulated scenes and a labelled real clip; score, export and describe it."""
    import torch

    from casa.cli.output import print_json
    from casa.detect import dataset, network, publish
    from casa.detect.train import load_train_config, steps_per_epoch, train
    from casa.errors import CasaError, InputError
    from casa.progress import progress
    from casa.resources import named_in_checkout, resource_dir
    from casa.simulate.routes import read_routes
    from casa.simulate.training import RECIPE, training_images

    if real is not None and not (data_name.strip() and data_licence.strip()):
        raise InputError(
            f"--real {real}: the model card has to say what it was trained on; give --data-name TEXT and"
            " --data-licence TEXT"
        )
    data = publish.RealData(real, data_name.strip(), data_licence.strip()) if real is not None else None
    start_file, begun_from = publish.find_start(start) if start else (None, "")
    path = config or resource_dir("configs") / "detector" / "train.yaml"
    settings = load_train_config(path, {"simulated": sim, "epochs": epochs})
    if (output / f"{settings.name}.onnx").exists() and not force:
        raise InputError(f"{output / settings.name}.onnx: exists already; choose another folder or give --force")
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CasaError(f"{output}: cannot be made ({error.strerror})") from error
    publish.withdraw(output, settings.name)
    if threads:
        torch.set_num_threads(threads)

    clip = dataset.clip_images(real, settings.real_first, settings.real_last, settings.real_stride) if real else []
    n_simulated = settings.simulated
    tables = read_routes(routes) if routes else None
    recipe = f"casa.simulate {RECIPE}, seed {seed}" + (f", routes of {len(tables)} recordings" if tables else "")
    with progress("simulating", n_simulated) as bar:
        simulated = dataset.simulated_images(
            training_images(seed, n_simulated, routes=tables),
            n_simulated,
            recipe,
            output / "simulated.npz",
            bar.advance,
        )
    log = output / "training.csv"
    log.write_text("epoch,box_loss,class_loss,dfl_loss\n", encoding="utf-8")

    def after_epoch(losses: Any, model: Any) -> None:
        with log.open("a", encoding="utf-8") as stream:
            stream.write(f"{losses.epoch},{losses.box_loss:.4f},{losses.class_loss:.4f},{losses.dfl_loss:.4f}\n")
        publish.write_files(model, settings, output)

    total = steps_per_epoch(settings, len(simulated) + len(clip)) * settings.epochs
    with progress("training", total) as bar:
        model = train(settings, simulated, clip, seed, lambda detail: bar.advance(1, detail), after_epoch, start_file)
    # Before its confidence is fitted: what another phase goes on from.
    network.save_state(model, settings.network, settings.classes, output / "training.pt")
    words = ["casa train detector"]
    words += [f"--config {named_in_checkout(config)}"] if config else []
    if data is not None:
        words.append(f"--real {data.folder.name} --data-name {quote(data.name)} --data-licence {quote(data.licence)}")
    words += [f"--routes {routes.name}"] if routes else []
    words += [f"--start {Path(*Path(start).parts[-2:])}"] if start else []
    command = " ".join([*words, f"--sim {n_simulated}", f"--epochs {settings.epochs}", f"--seed {seed}"])
    trained_on = publish.describe_training_data(settings, n_simulated, data, begun_from)
    entry, results = finish_training(model, settings, real, output, seed, command, trained_on, clip)
    if as_json:
        print_json({"weights": str(entry.files["onnx"][0]), "sha256": entry.files["onnx"][1], "scores": entry.scores})
    else:
        typer.echo(f"{entry.files['onnx'][0]}: " + ", ".join(f"{what}: {text}" for what, text in results.items()))


def finish_training(
    model: Any,
    settings: TrainConfig,
    real: Path | None,
    output: Path,
    seed: int,
    command: str,
    trained_on: str,
    clip: Sequence[LabelledImage],
) -> tuple[ModelEntry, dict[str, str]]:
    """Fit the confidence, export, score, and write manifest and card; gives the entry and the card's scores."""
    from casa.config import DetectConfig
    from casa.detect import load_detector, network, publish
    from casa.detect.confidence import fit_confidence
    from casa.detect.dataset import simulated_images
    from casa.errors import CasaError
    from casa.simulate.training import training_images
    from casa.weights import ModelEntry

    files = publish.write_files(model, settings, output)
    seed_of_fit = seed + 500_000
    fit_on = simulated_images(training_images(seed_of_fit, 30), 30, f"seed {seed_of_fit}") + list(clip[::10])
    fit_on = [item.of_classes(len(settings.classes)) for item in fit_on]
    detector = load_detector(DetectConfig(weights=str(files["onnx"][0]), backend="onnx", confidence=0.01))
    try:
        network.scale_logits(model, *fit_confidence(detector, fit_on))
    except CasaError as error:  # a network trained for a moment is still worth its files
        typer.echo(f"confidence is left as the network gives it: {error}", err=True)
    detector.close()
    files = publish.write_files(model, settings, output)
    scores, results = _judge(files["onnx"][0], settings, real, seed)
    entry = ModelEntry(
        name=settings.name,
        task="detector",
        folder=output,
        files=files,
        licence=publish.LICENCE,
        trained_on=trained_on,
        command=command,
        seed=seed,
        card=f"{settings.name}.md",
        scores=scores,
    )
    publish.publish(entry, settings, results)
    return entry, results


def _judge(
    weights: Path, settings: TrainConfig, real: Path | None, seed: int
) -> tuple[dict[str, float], dict[str, str]]:
    """Scores (for the manifest) and the card's lines, on simulated pictures not trained on and the clip's end."""
    from casa.detect.dataset import clip_images, simulated_images
    from casa.simulate.training import other_species_images, training_images

    unseen = seed + 1_000_003
    simulated = simulated_images(training_images(unseen, 80), 80, f"seed {unseen}")
    others = simulated_images(other_species_images(unseen, 32), 32, f"species, seed {unseen}")
    sets: list[tuple[str, str, Sequence[LabelledImage]]] = [
        ("simulated", "80 simulated pictures of another seed", simulated),
        ("species", "32 simulated pictures of other species' sperm", others),
    ]
    if real is not None:
        first, last = settings.test_first, settings.test_last
        sets.append(("clip", f"frames {first}-{last} of the real clip (same slide)", clip_images(real, first, last)))
    scores, results = {}, {}
    for key, title, images in sets:
        figures = _scores(weights, images, settings.classes)
        scores |= {f"{key}_{name}": round(value, 4) for name, value in figures.items()}
        results[title] = ", ".join(f"{_words(name)} {value:.3f}" for name, value in figures.items())
    return scores, results


def _words(name: str) -> str:
    what, _, of = name.replace("ap50_95", "AP50-95").replace("ap50", "AP50").partition("_")
    return f"{what} of {of}" if of else what


def _scores(weights: Path, images: Sequence[LabelledImage], classes: Sequence[str]) -> dict[str, float]:
    """Of ONNX weights on labelled pictures: AP50, AP50-95, precision and recall at the best F1 of the first class,
    and the AP50 of each other class that is there.
    """
    import numpy as np

    from casa.config import DetectConfig
    from casa.detect import load_detector
    from casa.evaluate.boxes import table_from_detections
    from casa.evaluate.detection import detection_scores
    from casa.types import Detections

    detector = load_detector(DetectConfig(weights=str(weights), confidence=0.01))
    found = [
        Detections(index, index, *boxes) for index, boxes in enumerate(detector.detect([item.image for item in images]))
    ]
    detector.close()
    truth = [
        Detections(index, index, item.xyxy, np.ones(len(item.xyxy), np.float32), item.class_id)  # type: ignore[arg-type]
        for index, item in enumerate(item.of_classes(len(classes)) for item in images)
    ]
    scores = detection_scores(
        table_from_detections(truth), table_from_detections(found), class_ids=list(range(len(classes)))
    )["per_class"]
    first = {name: float(scores[0][name]) for name in ("ap50", "ap50_95", "precision", "recall")}
    rare = {
        f"ap50_{name}": float(scores[k]["ap50"]) for k, name in enumerate(classes) if k and scores[k]["truth_boxes"]
    }
    return first | rare
