"""``casa grader``: a process that grades the clips of a running session, or examines the heads in them."""

from __future__ import annotations

import signal
import sys
from typing import Annotated, Any

import typer

from casa.cli.options import Keys


def grader(
    endpoint: Annotated[
        str | None, typer.Argument(help="The session: a name, ipc://FOLDER or tcp://HOST:PORT.")
    ] = None,
    task: Annotated[str, typer.Option(help="What to do with clips: grade, morphology or both.")] = "grade",
    weights: Annotated[str, typer.Option(help="Grading network: a name in `casa models list`, or a file.")] = "grade",
    morphology_weights: Annotated[
        str, typer.Option(help="Classifier of heads: a name in `casa models list`, or a file.")
    ] = "morphology",
    backend: Annotated[str, typer.Option(help="auto, openvino or torch; of the grading network.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda; of the grading network.")] = "auto",
    threads: Annotated[int, typer.Option(min=0, help="CPU threads of the network; 0: all cores.")] = 0,
    batch: Annotated[int, typer.Option(min=1, max=256, help="Clips at once.")] = 8,
    crops: Annotated[int, typer.Option(min=1, max=16, help="Sharpest pictures of a clip whose head is classed.")] = 4,
    cpu_share: Annotated[
        float, typer.Option(help="So much of this machine's CPU at most, above 0 and up to 1; it rests in between.")
    ] = 1.0,
    keys: Keys = None,
    name: Annotated[str, typer.Option(help="What the engine is to call this grader.", hidden=True)] = "",
) -> None:
    """Grade the clips of a session (`casa live --grade`, `--morphology`) until it ends; several share the work."""
    from casa.bus.address import Endpoint
    from casa.bus.keys import load_client_keys
    from casa.cli.output import stop_on_interrupt
    from casa.errors import InputError
    from casa.lifeline import follow_parent

    if task not in ("grade", "morphology", "both"):
        raise InputError(f"--task {task}: expected grade, morphology or both")
    if backend not in ("auto", "openvino", "torch"):
        raise InputError(f"--backend {backend}: expected auto, openvino or torch")
    if device not in ("auto", "cpu", "cuda"):
        raise InputError(f"--device {device}: expected auto, cpu or cuda")
    if not 0 < cpu_share <= 1:
        raise InputError(f"--cpu-share {cpu_share:g}: expected a number above 0 and up to 1")
    where = Endpoint.parse(endpoint)
    own = load_client_keys(keys) if keys is not None else None
    with stop_on_interrupt() as stop:
        # Linux sends it again for each thread of a parent that dies: more than one is no impatience
        signal.signal(signal.SIGTERM, lambda number, frame: stop.set())
        follow_parent()
        from casa.engine.grader import GradeWorker, MorphologyWorker, run_grader

        workers: list[Any] = []
        if task != "morphology":
            from casa.grade.model import Grader

            workers.append(GradeWorker(Grader(weights, device=device, backend=backend, threads=threads, batch=batch)))
        if task != "grade":
            from casa.morphology.examiner import HeadExaminer

            workers.append(MorphologyWorker(HeadExaminer(morphology_weights, threads=threads, crops=crops)))
        n = run_grader(where, workers, name=name, keys=own, cpu_share=cpu_share, batch=batch, stop=stop.is_set)
    if not name:
        print(f"casa: {n} clips {'graded' if task == 'grade' else 'done'}", file=sys.stderr)
