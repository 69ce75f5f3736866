"""``jarvis-embed exam``: what a model is worth on conversations it has not seen."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer
from rich.table import Table

from ..errors import InputError, SourceError
from ..evaluation.exam import run_exam
from ..evaluation.exam_record import Baseline, Exam, Metric, store_exam
from ..evaluation.histories import chitchat_history, own_history
from ..evaluation.splits import Sides
from ..home import home_folder
from .output import HomeOption, JsonOption, PrecisionOption, count, err, out, print_json, progress_bar

_COLUMNS: Final = ("random", "majority", "patterns", "tf-idf", "parent", "map")

DataOption = Annotated[Path | None, typer.Option("--data", help="Folder with public data files; see docs/exam.md.")]
HistoryOption = Annotated[
    bool | None,
    typer.Option(
        "--chitchat/--own",
        help="Examine on the chitchat corpus, or on the ingested history.",
        show_default="own, where there is one",
    ),
]


def exam(
    model: Annotated[
        str | None, typer.Argument(help="Model or folder to examine.", show_default="the one in use")
    ] = None,
    data: DataOption = None,
    chitchat: HistoryOption = None,
    sealed: Annotated[
        bool, typer.Option("--sealed", help="Examine on the sealed test part: once, when everything is decided.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before the sealed part is opened.")] = False,
    parent: Annotated[
        str | None, typer.Option(help="Model that this one was trained from, as a baseline.", show_default="none")
    ] = None,
    precision: PrecisionOption = None,
    baselines: Annotated[bool, typer.Option(help="Also random, TF-IDF, the parent, and a linear map on it.")] = True,
    timed: Annotated[bool, typer.Option(help="Also latency and search.")] = True,
    classified: Annotated[
        bool, typer.Option(help="Also the classifiers, which are trained for the model first.")
    ] = True,
    seed: Annotated[int, typer.Option(help="Which pairs and batches are drawn.")] = 1,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure what a model is worth on conversations it has not seen. Takes a few minutes."""
    root = home_folder(home)
    if sealed and not yes:
        if as_json:
            raise InputError("the sealed part is opened only on purpose", "Say so: --sealed --yes")
        typer.confirm("The sealed part tells the truth only as long as nothing is tuned to it. Open it?", abort=True)
    with progress_bar(hidden=as_json) as show:
        source, sides = choose_history(root, chitchat, sealed=sealed, elsewhere=data is not None)
        found = run_exam(
            model,
            sides,
            source=source,
            data=data,
            home=root,
            precision=precision,
            parent=parent,
            sealed=sealed,
            baselines=baselines,
            timed=timed,
            classified=classified,
            seed=seed,
            progress=show,
        )
    path = store_exam(found, root)
    if as_json:
        print_json(found.as_dict())
        return
    _print(found)
    out.print(f"\nStored: {path}", style="dim", soft_wrap=True)


def choose_history(home: Path, chitchat: bool | None, *, sealed: bool, elsewhere: bool) -> tuple[str, Sides | None]:
    """The history to examine on: as asked; else one's own, else chitchat, else none where there is data elsewhere."""
    if chitchat is not True:
        try:
            return "own", own_history(home)
        except InputError:
            if chitchat is False:
                raise
    try:
        return "chitchat", chitchat_history(sealed=sealed)
    except SourceError:
        if chitchat or not elsewhere:
            raise
        return "no history", None


def _print(found: Exam) -> None:
    counts = found.material
    out.print(
        f"{found.model} ({found.precision}) on {found.source}, {found.part}: "
        f"{count(counts['pairs'], 'pair')} of {count(counts['conversations'], 'conversation')}, "
        f"{count(counts['training_pairs'], 'training pair')} to look up in; seed {found.seed}; {found.seconds:.0f} s",
        soft_wrap=True,
    )
    out.print(
        f"{count(counts['texts_on_both_sides'], 'text')} on both sides; "
        f"{count(counts['pairs_on_both_sides'], 'held-out pair')} that training has too, left out. "
        f"95 % intervals over conversations, {found.draws:,} draws.",
        style="dim",
        soft_wrap=True,
    )
    measured = [row for row in found.metrics if row.interval is not None]
    for on in dict.fromkeys(row.on for row in measured):
        out.print(f"\n[bold]{on}[/]")
        here = [row for row in measured if row.on == on]
        kinds = [kind for kind in _COLUMNS if any(kind in row.baselines for row in here)]
        out.print(_table(here, kinds, found))
        for row in here:
            if row.beside and not row.name.startswith("thread_similarity"):  # its three rows stand together anyway
                out.print(f"  {row.name}: {_listed(row.beside)}", style="dim", soft_wrap=True)
    for row in found.metrics:
        if row.value is not None and row.interval is None:
            out.print(f"\n[bold]{row.name}[/] {row.on}")
            main = {"latency": "p50 ms", "search": "recall at 10"}.get(row.name, "value")
            out.print(_listed({main: row.value, **row.beside}), style="dim", soft_wrap=True)
    for row in found.metrics:
        if row.value is None:
            where = " · ".join(part for part in (row.on, row.variant) if part)
            err.print(f"not measured: {row.name} ({where}): {row.needs}", style="yellow", markup=False, soft_wrap=True)


def _table(rows: list[Metric], kinds: list[str], found: Exam) -> Table:
    """One line a metric."""
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 1, 0, 0))
    table.add_column("metric", width=31)
    for heading in ("value", "95 %", "n", *kinds):
        table.add_column(heading, justify="right", no_wrap=True)
    if found.parent is not None:
        table.add_column("more than parent", justify="right", no_wrap=True)
    for row in rows:
        if row.value is None or row.interval is None:
            continue
        name = f"{row.name}{', ' if row.variant else ''}{row.variant}"
        cells = [_cell(row.baselines.get(kind)) for kind in kinds]
        if found.parent is not None:
            cells.append(_gain(row.baselines.get("parent")))
        interval = f"{row.interval.low:.3f}–{row.interval.high:.3f}"
        table.add_row(name, f"[bold]{row.value:.3f}[/]", interval, f"{row.n:,}", *cells)
    return table


def _cell(baseline: Baseline | None) -> str:
    return "–" if baseline is None else f"{baseline.value:.3f}"


def _gain(baseline: Baseline | None) -> str:
    if baseline is None:
        return "–"
    low, high = baseline.difference.interval.low, baseline.difference.interval.high
    return f"{baseline.difference.value:+.3f} ({low:+.3f} to {high:+.3f})"


def _listed(figures: dict[str, float]) -> str:
    shown = {what: f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}" for what, value in figures.items()}
    return " · ".join(f"{what.replace('_', ' ')} {value}" for what, value in shown.items())
