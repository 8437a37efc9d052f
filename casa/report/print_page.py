"""Prints an HTML file as PDF on A4 with Qt's web engine: ``python print_page.py PAGE.html OUT.pdf``.

A program of its own (see casa.report.pdf): it imports nothing of casa. No script of the page is run, nothing is
fetched, and nothing is kept. Exit code 0, or a line on standard error.
"""

from __future__ import annotations

import os
import sys


def fail(why: str) -> int:
    """Say why, in a line that casa.report.pdf knows as this program's."""
    print(f"print_page: {why}", file=sys.stderr, flush=True)
    return 1


def main(page_path: str, out_path: str) -> int:
    """Print a page; the exit code."""
    try:
        from PySide6.QtCore import QMarginsF, QUrl
        from PySide6.QtGui import QPageLayout, QPageSize
        from PySide6.QtWebEngineCore import QWebEnginePage, QWebEngineProfile, QWebEngineSettings
        from PySide6.QtWidgets import QApplication
    except ImportError as error:
        return fail(" ".join(str(error).split()))
    app = QApplication(["casa"])
    profile = QWebEngineProfile(app)  # off the record: neither cookies nor a cache are kept
    page = QWebEnginePage(profile, app)
    for attribute, value in (
        (QWebEngineSettings.WebAttribute.JavascriptEnabled, False),
        (QWebEngineSettings.WebAttribute.LocalContentCanAccessRemoteUrls, False),
        (QWebEngineSettings.WebAttribute.LocalContentCanAccessFileUrls, False),
        (QWebEngineSettings.WebAttribute.PrintElementBackgrounds, True),
    ):
        page.settings().setAttribute(attribute, value)
    a4 = QPageLayout(QPageSize(QPageSize.PageSizeId.A4), QPageLayout.Orientation.Portrait, QMarginsF(14, 13, 14, 15),
                     QPageLayout.Unit.Millimeter)  # fmt: skip

    def loaded(well: bool) -> None:
        if well:
            page.printToPdf(out_path, a4)
        else:
            app.exit(fail(f"{page_path} could not be loaded"))

    def printed(path: str, well: bool) -> None:
        app.exit(0 if well else fail("the pages could not be written"))

    page.loadFinished.connect(loaded)
    page.pdfPrintingFinished.connect(printed)
    page.renderProcessTerminated.connect(lambda *_: app.exit(fail("the web engine broke off")))
    page.load(QUrl.fromLocalFile(page_path))
    return app.exec()


if __name__ == "__main__":
    os._exit(main(*sys.argv[1:]))  # what is left, Qt must end in an order that Python does not keep
