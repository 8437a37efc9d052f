"""``casa simulate``: write a simulated recording with its truth. Holds `simulate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def simulate(
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Folder; the recording gets a folder of its own in it.")
    ],
    preset: Annotated[str, typer.Option(help="What to simulate; a wrong name lists the known ones.")] = "default",
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same recording.")] = 0,
    frames: Annotated[
        int | None, typer.Option(min=1, help="Frames to write; by default as many as the preset has.")
    ] = None,
    images: Annotated[bool, typer.Option("--images", help="Write each frame as JPEG too.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a recording of the same name.")] = False,
) -> None:
    """Write a simulated recording in the VISEM-Tracking layout: video, boxes, track ids, exact kinematics."""
    from casa.progress import progress
    from casa.simulate.layout import write_visem_layout
    from casa.simulate.scene import simulate as make_scene

    scene = make_scene(preset, seed, frames)
    with progress(f"simulating {preset}", total=len(scene)) as bar:
        folder = write_visem_layout(scene, output, images=images, force=force, advance=bar.advance)
    typer.echo(folder)
