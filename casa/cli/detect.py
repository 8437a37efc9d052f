"""``casa detect``: what the detector finds in a video, as a table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from casa.cli.options import Backend, ConfigName, Device, Force, Json


def detect(
    video: Annotated[str, typer.Argument(help="Video, folder of images, or simulator:PRESET.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Detections table to write: CSV or .csv.gz.")],
    fps: Annotated[float | None, typer.Option(help="Frames a second, instead of the video's own times.")] = None,
    config: ConfigName = "replay",
    weights: Annotated[str | None, typer.Option(help="A detector's name (casa models list), or a file.")] = None,
    accuracy: Annotated[
        bool, typer.Option("--accuracy", help="The most accurate detector instead of the fast one.")
    ] = False,
    backend: Backend = None,
    device: Device = None,
    confidence: Annotated[float | None, typer.Option(help="Leave out detections below this confidence.")] = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Detect sperm in every frame of a video."""
    from casa.cli.found import chosen_weights
    from casa.cli.output import print_json, refuse_existing
    from casa.config import load_config
    from casa.detect import DetectStage
    from casa.errors import CasaError
    from casa.evaluate.boxes import table_from_detections
    from casa.progress import progress
    from casa.sources import open_source
    from casa.tables import write_detections
    from casa.types import Frame

    refuse_existing(output, force)
    settings = load_config(
        config,
        {
            "source.fps_hz": fps,
            "detect.weights": chosen_weights(weights, accuracy),
            "detect.backend": backend,
            "detect.device": device,
            "detect.confidence": confidence,
        },
    )
    stage = DetectStage(settings.detect)
    found, missing = [], 0
    with open_source(video, settings.source) as source, progress("detecting", source.info.n_frames) as bar:
        stage.open()
        try:
            for item in source:
                bar.advance()
                if item.index % settings.source.every_nth:
                    continue
                if isinstance(item, Frame):
                    found.extend(stage.process(item))
                else:
                    missing += 1
            found.extend(stage.flush())
            model = stage.model
        finally:
            stage.close()
    table = table_from_detections(found)
    # Written beside its place and moved there: a full disk leaves no table that looks whole.
    partial = output.with_name(f".partial-{output.name}")
    try:
        write_detections(partial, table)
        partial.replace(output)
    except OSError as error:
        raise CasaError(f"{output}: cannot be written ({error.strerror or error}); free space or choose another") from (
            error
        )
    finally:
        partial.unlink(missing_ok=True)
    result = {
        "frames": len(found),
        "missing_frames": missing,
        "detections": len(table),
        "model": model.name,
        "sha256": model.sha256,
        "backend": model.backend,
        "device": model.device,
        "precision": model.precision,
        "detections_file": str(output),
    }
    if as_json:
        print_json(result)
        return
    typer.echo(f"{len(table)} detections in {len(found)} frames ({model.name}, {model.backend}): {output}")
    if missing:
        typer.echo(f"{missing} frames could not be read and were left out", err=True)
