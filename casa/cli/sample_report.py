"""``casa sample report``: the report of a sample. Holds `report`, and ``--pdf`` as all reports take it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from casa.cli.audit import AuditOption, audit_report, check_log
from casa.cli.options import Json

if TYPE_CHECKING:
    from casa.record import Recording

AsPdf = Annotated[bool, typer.Option("--pdf", help="Print it on A4 too, as a PDF beside the HTML file.")]


def pdf_beside(page: Path, wanted: bool, force: bool) -> Path | None:
    """The PDF of a report, None where none is wanted.

    Raises
    ------
    InputError : it exists and may not be replaced, or ``page`` has the name of a PDF, which it will not be.
    """
    from casa.cli.output import refuse_existing
    from casa.errors import InputError

    if page.suffix.lower() == ".pdf":
        raise InputError(f"-o {page}: is to be the HTML file (REPORT.html); --pdf writes the PDF beside it")
    if not wanted:
        return None
    refuse_existing(page.with_suffix(".pdf"), force)
    return page.with_suffix(".pdf")


def open_field(path: Path | str) -> Recording:
    """A recording, with the corrections made in the viewer where there are any (which takes longer to load)."""
    from casa.record import Recording
    from casa.viewer.corrections import corrections_path

    if not corrections_path(Path(path)).is_file():
        return Recording(path)
    from casa.engine.corrected import open_with

    return open_with(False, None)(path)


def report(
    folder: Annotated[Path, typer.Argument(metavar="SAMPLE", help="Folder of the sample.")],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="The HTML file; by default report.html in the sample's folder."),
    ] = None,
    pdf: AsPdf = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing report.")] = False,
    audit_log: AuditOption = None,
    as_json: Json = False,
) -> None:
    """Write the report of a sample as one HTML file."""
    from casa.cli.output import print_json
    from casa.report.sample import write_sample_report
    from casa.samples.sample import read_sample

    sample = read_sample(folder)
    output = output or folder / "report.html"
    printed = pdf_beside(output, pdf, force)
    check_log(audit_log)
    figures = write_sample_report(folder, output, force, open_field)
    audit_report(audit_log, sample.sample_id, output, figures.accepted)  # before the PDF, which may fail
    if printed is not None:
        from casa.report.pdf import write_pdf

        write_pdf(output, printed, force)
        audit_report(audit_log, sample.sample_id, printed, figures.accepted)
    if as_json:
        told = {"sample": str(folder), "accepted": figures.accepted, "report": str(output)}
        print_json(told | {"pdf": None if printed is None else str(printed)})
    else:
        for path in filter(None, (output, printed)):
            typer.echo(str(path), err=True)
