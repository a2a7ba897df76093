"""The report page: a spec's pictures and numbers in one HTML file that needs nothing else."""

from __future__ import annotations

from critinit_cli.report.page import Picture, page

__all__ = ["Picture", "page"]
