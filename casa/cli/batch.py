"""``casa batch``: many recordings into one data set, by this machine's cores or a Ray cluster."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from casa.cli.audit import AuditOption, audit_result, check_log
from casa.cli.options import Backend, ConfigName, Device, Grade, GradeWeights, Json, Morphology, MorphologyWeights

if TYPE_CHECKING:
    from pathlib import Path

    from casa.batch.plan import Plan
    from casa.batch.pool import Pool
    from casa.batch.run import Result
    from casa.batch.store import Store


def batch(
    inputs: Annotated[
        list[str],
        typer.Argument(
            help="Recordings, folders of them, globs, or a manifest (CSV with a column path); fsspec paths too."
        ),
    ],
    output: Annotated[str, typer.Option("-o", "--output", help="Folder for the results, or an fsspec path.")],
    cluster: Annotated[
        str | None, typer.Option(help="Ray: local starts one here; auto or HOST:PORT joins one that runs.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Recordings at a time; by default one a core.", show_default=False)
    ] = None,
    gpus: Annotated[float, typer.Option(min=0, help="Part of a GPU for each recording, of a cluster.")] = 0.0,
    config: ConfigName = "replay",
    calibration: Annotated[
        str | None, typer.Option(help="Calibration profile (name or TOML file), where the manifest has none.")
    ] = None,
    fps: Annotated[float | None, typer.Option(help="Frames a second, instead of the files' own timestamps.")] = None,
    weights: Annotated[
        str | None, typer.Option(help="Detector weights: a name in `casa models list`, or a file.")
    ] = None,
    accuracy: Annotated[
        bool, typer.Option("--accuracy", help="The most accurate detector instead of the fast one.")
    ] = False,
    backend: Backend = None,
    device: Device = None,
    grade: Grade = None,
    grade_weights: GradeWeights = None,
    morphology: Morphology = None,
    morphology_weights: MorphologyWeights = None,
    max_frames: Annotated[int | None, typer.Option(help="Stop each recording after so many frames.")] = None,
    retries: Annotated[int, typer.Option(min=0, help="How often a recording whose worker failed is tried again.")] = 2,
    report: Annotated[
        bool, typer.Option("--report/--no-report", help="Write an HTML report of each recording.")
    ] = False,
    skip_duplicates: Annotated[
        bool, typer.Option("--skip-duplicates", help="Leave out what is given twice, or a copy, instead of refusing.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Analyse again what is finished with other settings, or has changed.")
    ] = False,
    audit_log: AuditOption = None,
    as_json: Json = False,
) -> None:
    """Analyse many recordings into one data set; the same command again goes on where it was broken off."""
    from casa.batch.inputs import find
    from casa.batch.plan import make_plan
    from casa.batch.run import run
    from casa.batch.settings import resolved
    from casa.batch.store import open_store
    from casa.cli.found import chosen_weights
    from casa.cli.output import print_json, stop_on_interrupt
    from casa.cli.replay import check_networks
    from casa.config import load_config
    from casa.errors import InputError
    from casa.progress import progress

    if any(text.startswith("memory://") for text in (*inputs, output)):
        raise InputError("memory:// is inside one process, and recordings are analysed by others: give another place")
    overrides = {
        "source.fps_hz": fps,
        "source.max_frames": max_frames,
        "detect.weights": chosen_weights(weights, accuracy),
        "detect.backend": backend,
        "detect.device": device,
        "grade.enabled": grade,
        "grade.weights": grade_weights,
        "morphology.enabled": morphology,
        "morphology.weights": morphology_weights,
    }
    asked = load_config(config, overrides)
    check_networks(grade_weights, morphology_weights, asked)
    check_log(audit_log)
    settings = resolved(asked, cluster is not None, gpus)
    items = find(inputs, skip_duplicates, _warn)
    store = open_store(output, create=True)
    with store.held():
        plan = make_plan(
            items, store, settings, calibration,
            force=force, skip_duplicates=skip_duplicates, report=report, command=" ".join(sys.argv[1:]), said=_warn,
        )  # fmt: skip
        _caution(plan)
        result = _nothing(plan)
        if plan.jobs:
            pool = _pool(plan, cluster, workers, gpus)
            log = _Log(audit_log, store.root)
            try:
                with stop_on_interrupt() as stop, progress("analysing", len(plan.jobs) + len(plan.finished)) as bar:
                    bar.advance(len(plan.finished))

                    def told(part: float, result: Result) -> None:
                        bar.advance(part, _detail(result))
                        log.add(result)

                    result = run(plan, pool, store, retries=retries, stop=stop, on_progress=told)
                    log.add(result)
            finally:
                pool.close()
        _list_failed(store, result)
    if as_json:
        print_json(result_json(store, result) | {"of_earlier_batches": plan.others})
    else:
        _print(store, result, plan.others)
    _tell_unfinished(store, result)
    if not result.complete:
        raise typer.Exit(1)


class _Log:
    """The audit log of a batch: a line for each recording when it is finished, not when all are."""

    def __init__(self, path: Path | None, output: str) -> None:
        self._path, self._output, self._n = path, output, 0

    def add(self, result: Result) -> None:
        """What has been finished since."""
        for mark in result.done[self._n :]:
            self._n += 1
            about = {"path": mark["uri"], "sha256": mark["sha256"], "settings": mark["settings"]}
            audit_result(self._path, "result", mark["recording"], **about, output=self._output)


def _pool(plan: Plan, cluster: str | None, workers: int | None, gpus: float) -> Pool:
    """The pool, and in the jobs the threads that each of its workers has."""
    import os
    from dataclasses import replace

    from casa.batch.settings import with_threads
    from casa.config import Config
    from casa.errors import InputError

    cores = os.cpu_count() or 1
    if cluster is None:
        if gpus:
            raise InputError("--gpus is for a cluster; processes of this machine share its GPU: choose --workers")
        workers = min(workers or cores, len(plan.jobs))
    threads = 1 if workers is None else max(1, cores // workers) if cluster is None else 1
    configs = {
        job.settings: with_threads(Config.model_validate(job.config), threads).model_dump(mode="json")
        for job in {job.settings: job for job in plan.jobs}.values()
    }
    plan.jobs[:] = [replace(job, config=configs[job.settings]) for job in plan.jobs]
    if cluster is None:
        from casa.batch.local import LocalPool

        return LocalPool(workers or cores)
    from casa.batch.ray_cluster import RayPool

    return RayPool(cluster, workers, threads, gpus)


def _warn(text: str) -> None:
    typer.echo(f"casa: warning: {text}", err=True)


def _caution(plan: Plan) -> None:
    """What speaks against the calibrations today, once each."""
    from datetime import date

    from casa.calibrate.profile import cautions

    for calibration in plan.calibrations:
        for line in cautions(calibration, date.today()):
            _warn(line)


def _nothing(plan: Plan) -> Result:
    from casa.batch.run import Result

    return Result(before=list(plan.finished))


def _detail(result: Result) -> str:
    rate = f"{result.fps:.0f} frames/s" if result.fps else ""
    return f"{rate}, {len(result.failed)} failed" if result.failed else rate


def _list_failed(store: Store, result: Result) -> None:
    """``failed.csv`` in the store: what could not be analysed, and why; gone where all went well."""
    import csv
    import io

    if not result.failed:
        store.remove("failed.csv")
        return
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["path", "recording", "reason", "attempts"])
    for failure in result.failed:
        rows.writerow([failure.uri, failure.recording, failure.reason, failure.attempts])
    store.write("failed.csv", text.getvalue().encode())


def result_json(store: Store, result: Result) -> dict[str, Any]:
    """What ``--json`` prints."""
    return {
        "output": store.root,
        "dataset": f"{store.root}/dataset",
        "recordings": len(result.done) + len(result.before) + len(result.failed) + result.left,
        "analysed": len(result.done),
        "finished_before": len(result.before),
        "not_begun": result.left,
        "retried": result.retried,
        "failed": [
            {"recording": f.recording, "path": f.uri, "reason": f.reason, "attempts": f.attempts} for f in result.failed
        ],
        "frames": result.frames,
        "frames_failed": sum(mark["frames_failed"] for mark in result.done),
        "wall_s": result.wall_s,
        "fps": result.fps,
    }


def _print(store: Store, result: Result, others: int) -> None:
    rate = f", {result.frames} frames, {result.fps:.0f} a second" if result.fps else ""
    before = f", {len(result.before)} were finished before" if result.before else ""
    print(f"{len(result.done)} recordings analysed{rate}{before}")
    if damaged := [mark for mark in result.done if mark["frames_failed"]]:
        frames = sum(mark["frames_failed"] for mark in damaged)
        print(f"{frames} frames of {len(damaged)} recordings could not be analysed: see frames_failed in the data set")
    besides = f" (with {others} recordings of earlier batches)" if others else ""
    print(f"data set: {store.root}/dataset{besides}")


def _tell_unfinished(store: Store, result: Result) -> None:
    """What could not be analysed and what was not begun, to standard error, a line each."""
    for failure in result.failed:
        typer.echo(f"casa: {failure.recording}: {failure.reason}", err=True)
    if result.failed:
        where = f"{store.root}/failed.csv lists them; the same command tries them again"
        typer.echo(f"casa: {len(result.failed)} recordings failed; {where}", err=True)
    if result.left:
        typer.echo(f"casa: {result.left} recordings were not begun; the same command again goes on", err=True)
