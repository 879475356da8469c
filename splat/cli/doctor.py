"""``splat doctor``: says what this machine can do."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.markup import escape

from splat.cli.console import console, emit_json, grid, heading, parse

MARKS = {"ok": "[green]✓[/]", "absent": "[yellow]–[/]", "broken": "[red]✗[/]"}


@dataclass(frozen=True)
class Doctor:
    """Say what this machine can do: each part is tried, and what is missing comes with the line that installs it."""

    json: Path | None = None
    """Also write the findings to this file; - is standard output."""


def run(arguments: Sequence[str]) -> None:
    """Run ``splat doctor``."""
    options = parse("doctor", Doctor, arguments)
    from splat.doctor import examine

    sections = examine()
    if options.json is not None:
        emit_json({title: [asdict(finding) for finding in found] for title, found in sections.items()}, options.json)
        if str(options.json) == "-":
            return
    for title, found in sections.items():
        rows = []
        for finding in found:
            remedy = f"\n[dim]to change that:[/] {escape(finding.remedy)}" if finding.remedy else ""
            rows.append((MARKS[finding.state], finding.name, escape(finding.detail) + remedy))
        heading(title)
        console.print(grid(rows))
        console.print()
