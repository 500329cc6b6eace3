"""Tables of numbers, for a page, a terminal or a Markdown file."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan

from nmt.report.curves import Chart
from nmt.report.text import clean

Value = str | float | int | None


@dataclass(frozen=True)
class Table:
    """Numbers to read: the first column names its row; None is shown as ``-``, floats with four digits."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Value]]
    notes: Sequence[str] = ()


def cell_text(value: Value) -> str:
    """Return a cell's text: counts with thousands parted, other numbers with two decimals or four digits."""
    if value is None:
        return "-"
    if isinstance(value, str):
        return value
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.2f}" if abs(value) >= 10 else f"{value:.4g}"


def numeric_columns(table: Table) -> list[bool]:
    """Say of each column whether it holds a number, and is set right."""
    return [any(isinstance(row[place], float | int) for row in table.rows) for place in range(len(table.columns))]


def chart_table(chart: Chart) -> Table:
    """Return the numbers of a chart whose x axis counts ticks."""
    assert chart.ticks is not None
    rows = [
        [tick.replace("\n", " "), *(None if isnan(line.y[place]) else float(line.y[place]) for line in chart.series)]
        for place, tick in enumerate(chart.ticks)
    ]
    return Table(chart.title, [chart.x_label, *(line.name for line in chart.series)], rows)


def plain_table(table: Table) -> str:
    """Return the table for a terminal."""
    cells = _cells(table)
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    right = numeric_columns(table)
    lines = [
        "  ".join(
            cell.rjust(width) if number else cell.ljust(width)
            for cell, width, number in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in cells
    ]
    return "\n".join([clean(table.caption), "", *lines, *_notes(table)]) + "\n"


def markdown_table(table: Table) -> str:
    """Return the table in Markdown."""
    head, *body = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in _cells(table)]
    rule = "|" + "|".join("---:" if number else "---" for number in numeric_columns(table)) + "|"
    return "\n".join([f"## {clean(table.caption)}", "", head, rule, *body, *_notes(table)]) + "\n"


def _cells(table: Table) -> list[list[str]]:
    """Return the text of the heading and of every row."""
    return [[clean(cell_text(value)) for value in row] for row in (table.columns, *table.rows)]


def _notes(table: Table) -> list[str]:
    """Return the notes as paragraphs."""
    return [line for note in table.notes for line in ("", clean(note))]
