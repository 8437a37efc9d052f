"""Options that many commands have, each written once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Backend = Annotated[str | None, typer.Option(help="auto, openvino, onnx, torch or tensorrt.")]
CalibrationName = Annotated[str | None, typer.Option(help="Calibration profile (name or TOML file).")]
ConfigName = Annotated[str, typer.Option(help="Configuration (name or YAML file).")]
Device = Annotated[str | None, typer.Option(help="auto, cpu or cuda.")]
Force = Annotated[bool, typer.Option("--force", help="Replace an output that exists.")]
Grade = Annotated[bool | None, typer.Option("--grade/--no-grade", help="Let a network grade sperm as experts would.")]
GradeWeights = Annotated[
    str | None,
    typer.Option(help="Weights for --grade: a name in `casa models list`, or a file.", show_default=False),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")]
Keys = Annotated[Path | None, typer.Option(help="Folder with this client's keys (`casa keys`).")]
Morphology = Annotated[
    bool | None, typer.Option("--morphology/--no-morphology", help="Let a network class the form of heads.")
]
MorphologyWeights = Annotated[
    str | None,
    typer.Option(help="Weights for --morphology: a name in `casa models list`, or a file.", show_default=False),
]
Threads = Annotated[int, typer.Option(min=0, help="CPU threads; 0: all cores.")]
