"""The report of a training run: one HTML file that needs nothing beside it and no network."""

from splat.report.write import write_report

__all__ = ["write_report"]
