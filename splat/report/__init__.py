"""Reports: one HTML file each, which needs nothing beside it and no network."""

from splat.report.embed import embed_viewer
from splat.report.write import document, write_report

__all__ = ["document", "embed_viewer", "write_report"]
