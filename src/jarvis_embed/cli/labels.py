"""``jarvis-embed labels``: the labels that classifiers learn from."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from ..home import home_folder
from ..labels.gold import agreement as agreement_of
from ..labels.gold import read_gold
from ..labels.own import clear_labels, import_labels, own_labels
from ..labels.scheme import LABELS, MEANINGS, TASKS, Task
from ..library import Library
from ..sources.chitchat import split_of
from .output import HomeOption, JsonOption, count, err, out, print_json

app = typer.Typer(
    help="List, import and compare the labels that classifiers learn from.", no_args_is_help=True, rich_markup_mode=None
)


@app.command("list")
def list_labels(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Show every label, what it means, and how many messages have it: in the package, and of your own."""
    gold = [label for label in read_gold() if label.reading == 1]
    counted = Counter((split_of(label.conversation), label.task, label.label) for label in gold)
    own = Counter((label.task, label.label) for label in own_labels(home_folder(home)))
    rows = [
        {
            "task": task,
            "label": label,
            "meaning": MEANINGS[task][label],
            "train": counted["train", task, label],
            "validation": counted["validation", task, label],
            "own": own[task, label],
        }
        for task in TASKS
        for label in LABELS[task]
    ]
    if as_json:
        print_json({"labels": rows})
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("task", "label", "what it means"):
        table.add_column(heading)
    for heading in ("train", "validation", "your own"):
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    out.print(table)


@app.command("import")
def import_file(
    file: Annotated[
        Path, typer.Argument(help="CSV or .jsonl: conversation,turn,label or text,label (docs/labels.md).")
    ],
    task: Annotated[
        str | None, typer.Option(help="trigger or response: of rows that do not say it.", show_default="by the label")
    ] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take labels of your own messages; each row that cannot be taken is named with its line and the reason.

    Exit code 1 if there was such a row; the good ones are kept.
    """
    root = home_folder(home)
    default: Task | None = next((known for known in TASKS if known == task), None)
    if task is not None and default is None:
        raise typer.BadParameter("a task is trigger or response", param_hint="--task")
    with Library.open(root) as library:
        report = import_labels(file, root, library.turn_texts, task=default)
    if as_json:
        print_json(report)
    else:
        for bad in report.bad:
            err.print(f"line {bad.line}: {bad.reason}", style="yellow", markup=False, soft_wrap=True)
        same = report.read - report.new - report.changed - len(report.bad)
        out.print(
            f"{count(report.read, 'row')} read: {report.new:,} new, {report.changed:,} changed, {same:,} known, "
            f"{len(report.bad):,} left out. Next: jarvis-embed train heads"
        )
    if report.bad:
        raise typer.Exit(1)


@app.command()
def clear(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Forget the labels that were imported. What heads learned from them stays until they are trained again."""
    number = clear_labels(home_folder(home))
    if as_json:
        print_json({"removed": number})
    else:
        out.print(f"{count(number, 'label')} removed. Next: jarvis-embed train heads")


@app.command()
def agreement(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Compare the two readings of the gold labels: share of equal ones, and Cohen's kappa."""
    home_folder(home)
    found = agreement_of(read_gold())
    if as_json:
        print_json({"agreement": found})
        return
    for one in found:
        out.print(
            f"[bold]{one.task}[/]  {count(one.n, 'turn')} read twice: {one.observed:.1%} equal, κ {one.kappa:.3f}"
        )
        for first, second, number in one.disagreements[:5]:
            out.print(f"  {number:>3} × {first} / {second}", style="dim")
