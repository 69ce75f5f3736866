"""``jarvis-embed bench`` and ``models tune``: how fast each model is on this machine, and with how many cores."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from ..config import load_settings
from ..errors import InputError
from ..evaluation import bench_report
from ..home import home_folder
from ..models.machine import usable_cores
from ..models.tune import tune as tune_model
from .output import HomeOption, JsonOption, PrecisionOption, count, err, out, print_json, progress_bar


def bench(
    models: Annotated[
        list[str] | None, typer.Argument(help="Models or folders to measure.", show_default="all")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds; the median of them is reported.")] = 5,
    messages: Annotated[int, typer.Option(min=1, help="Single messages in each round.")] = 300,
    bulk: Annotated[int, typer.Option(min=2, help="Messages that are embedded at once.")] = 3000,
    threads: Annotated[int | None, typer.Option(min=1, help="Cores for each engine.", show_default="all")] = None,
    source: Annotated[str, typer.Option(help="Where the messages come from: chitchat, or a file.")] = "chitchat",
    seed: Annotated[int, typer.Option(help="Which messages are drawn.")] = 1,
    peers: Annotated[bool, typer.Option(help="Also sentence-transformers and fastembed, if installed.")] = True,
    shapes: Annotated[bool, typer.Option(help="Also shapes of models without weights, with random ones.")] = True,
    shape_only: Annotated[bool, typer.Option("--shape-only", help="Nothing but such shapes.")] = False,
    output: Annotated[Path | None, typer.Option(help="File for the JSON.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="File for the tables, as Markdown.")] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Time every model against torch and fastembed, in one run and with equal threads. Takes some minutes."""
    from ..evaluation.bench import Settings, run_bench  # imports onnx, which no other command needs

    for path in (output, markdown):
        if path is not None and not path.absolute().parent.is_dir():
            raise InputError(f"there is no folder {path.parent}", "Make it first; a benchmark takes minutes")
    settings = Settings(
        rounds=rounds,
        messages=messages,
        bulk=bulk,
        threads=threads or usable_cores(),
        seed=seed,
        source=source,
        shapes="only" if shape_only else "also" if shapes else "none",
        peers=peers,
    )
    with progress_bar(hidden=as_json) as show:
        report = run_bench(models or (), settings, home_folder(home), show)
    result: dict[str, Any] = json.loads(json.dumps(asdict(report)))
    if output is not None:
        output.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if markdown is not None:
        markdown.write_text(bench_report.markdown(result), encoding="utf-8")
    if as_json:
        print_json(result)
        return
    out.print(bench_report.machine(result), style="dim")
    out.print(bench_report.how(result), style="dim")
    for table in bench_report.tables(result):
        out.print(f"\n[bold]{table.title}[/]")
        out.print(table.about, style="dim", markup=False)
        out.print(_drawn(table))
    for note in report.notes:
        err.print(f"note: {note}", style="yellow", markup=False)


def tune(
    model: Annotated[str | None, typer.Argument(help="Model to tune.", show_default="the one in use")] = None,
    precision: PrecisionOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure how many cores make one message fastest on this machine, and remember it for every later query."""
    root = home_folder(home)
    settings = load_settings(root)
    with progress_bar(hidden=as_json) as show:
        found = tune_model(model or settings.model, root, precision or settings.precision, progress=show)
    if as_json:
        named = {str(way): ms for way, ms in found.milliseconds.items()}  # JSON's keys are text
        print_json({"model": found.model, "precision": found.precision, "best": found.best, "milliseconds": named})
        return
    for way, milliseconds in found.milliseconds.items():
        mark = "→" if way == found.best else " "
        out.print(f"{mark} {way.engine:<6} {count(way.threads, 'thread'):<10} {milliseconds:7.2f} ms")
    best = f"{found.best.engine} and {count(found.best.threads, 'thread')}"
    out.print(f"{found.model} ({found.precision}) answers single messages with {best} now.")


def _drawn(table: bench_report.Table) -> Table:
    drawn = Table(box=None, pad_edge=False, header_style="dim")
    for heading, is_number in bench_report.columns(table):
        drawn.add_column(heading, justify="right" if is_number else "left", overflow="fold")
    for row in table.rows:
        drawn.add_row(*row)
    return drawn
