"""``splat doctor``: says what this machine can do."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape

from splat.cli.console import console, grid, heading, parse
from splat.cli.results import present

if TYPE_CHECKING:
    from splat.doctor import Finding

MARKS = {"ok": "[green]✓[/]", "absent": "[yellow]–[/]", "broken": "[red]✗[/]"}


@dataclass(frozen=True)
class Doctor:
    """Say what this machine can do: each part is tried, and what is missing comes with the line that installs it."""

    json: Path | None = None
    """Write the findings as JSON to this file; - is standard output, without the table."""


def run(arguments: Sequence[str]) -> None:
    """Run ``splat doctor``."""
    options = parse("doctor", Doctor, arguments)
    from splat.doctor import examine

    sections = examine()
    facts = {title: [asdict(finding) for finding in findings] for title, findings in sections.items()}
    present(facts, options.json, lambda: _show(sections))


def _show(sections: "Mapping[str, Sequence[Finding]]") -> None:
    for title, findings in sections.items():
        rows = []
        for finding in findings:
            remedy = f"\n[dim]to change that:[/] {escape(finding.remedy)}" if finding.remedy else ""
            rows.append((MARKS[finding.state], finding.name, escape(finding.detail) + remedy))
        heading(title)
        console.print(grid(rows))
        console.print()
