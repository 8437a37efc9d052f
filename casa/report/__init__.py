"""The report: one HTML file a laboratory would read, made from a recording and nothing else."""

from casa.report.document import write_report

__all__ = ["write_report"]
