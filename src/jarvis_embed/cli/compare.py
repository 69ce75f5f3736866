"""``jarvis-embed compare``: which model to use, with numbers that hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.table import Table

from ..config import Precision
from ..evaluation.compare import run_comparison
from ..evaluation.comparison import called, in_points, key_of, row_of, store_comparison
from ..home import home_folder
from .exam import DataOption, HistoryOption, choose_history
from .output import HomeOption, JsonOption, err, out, print_json, progress_bar

_SHOWN = ("trigger_f1", "response_f1", "reply_similarity", "response_accuracy", "general_similarity")

_NAMED, _NARROW, _FEW = 18, 13, 3
"""Width of the rows' names at least; and of a model, where there are more than so few: four fit into 80 columns."""

Json = Mapping[str, Any]


def compare(
    models: Annotated[
        list[str] | None, typer.Argument(help="Models or folders to compare.", show_default="all")
    ] = None,
    data: DataOption = None,
    chitchat: HistoryOption = None,
    precision: Annotated[
        Precision | None, typer.Option(help="Arithmetic of the encoders.", show_default="settings")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Cores for each model.", show_default="all")] = None,
    shapes: Annotated[bool, typer.Option(help="Also time the shapes of models without weights.")] = True,
    seed: Annotated[int, typer.Option(help="Which pairs and messages are drawn.")] = 1,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare models on your messages: what each is worth, how fast it is, and which to use. Takes minutes."""
    root = home_folder(home)
    with progress_bar(hidden=as_json) as show:
        source, sides = choose_history(root, chitchat, sealed=False, elsewhere=False)
        found = run_comparison(
            models or (),
            sides,
            root,
            source=source,
            data=data,
            precision=precision,
            threads=threads,
            shapes=shapes,
            seed=seed,
            progress=show,
        ).as_dict()
    path = store_comparison(found, root)
    if as_json:
        print_json(found)
        return
    print_comparison(found)
    out.print(f"\n[bold]{found['recommendation']['reason']}[/]", soft_wrap=True)
    out.print(f"Stored: {path}. Next: jarvis-embed report", style="dim", soft_wrap=True)


def print_comparison(found: Json) -> None:
    out.print(
        f"On {found['source']}, {found['part']}; seed {found['seed']}; {found['threads']} threads for each model; "
        f"{found['seconds']:.0f} s. Below each figure its 95 % interval over conversations, and the paired difference "
        f"to {found['baseline']}, in points.",
        style="dim",
        soft_wrap=True,
    )
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    table.add_column("", min_width=_NAMED)
    narrow = _NARROW if len(found["models"]) > _FEW else None
    for model in found["models"]:
        table.add_column(model["name"], justify="right", overflow="fold", max_width=narrow)
    keys = [key_of(row) for row in found["models"][0]["metrics"] if row["name"] in _SHOWN and row["value"] is not None]
    for key in keys:
        name, *where = key.split(" · ")
        table.add_row(f"{called(name)}\n[dim]{', '.join(where)}[/]", *(_cell(m, key, found) for m in found["models"]))
    for heading, cells in _sizes(found["models"]):
        table.add_row(heading, *cells)
    out.print(table)
    for absent in found["absent"]:
        speed = absent["shape_speed"]
        time = f" (its shape, with random weights: {speed['p50_ms']['median']:.2f} ms)" if speed else ""
        out.print(f"{absent['name']}: not present: models pull {absent['name']}{time}", style="yellow", soft_wrap=True)
    for row in found["models"][0]["metrics"]:
        if row["name"] in _SHOWN and row["value"] is None:
            err.print(f"not measured: {key_of(row)}: {row['needs']}", style="yellow", markup=False, soft_wrap=True)
    if found["models"][0]["space"] is None:
        err.print("not measured: index and suggest: need messages: jarvis-embed ingest SOURCE", style="yellow")
    if found["busy"]:
        err.print(f"The machine was busy (load {found['load']:.1f}): times may be too long.", style="yellow")


def _cell(model: Json, key: str, found: Json) -> str:
    row = row_of(model, key)
    value = f"[bold]{row['value']:.3f}[/]\n[dim]{row['interval']['low']:.3f}–{row['interval']['high']:.3f}[/]"
    difference = model["against"].get(found["baseline"], {}).get(key)
    return value if difference is None else f"{value}\n{in_points(difference, signed=True)}"


def _sizes(models: list[Json]) -> list[tuple[str, list[str]]]:
    """Rows about time and size."""
    rows = [
        ("one message, p50 ms", [f"{m['speed']['p50_ms']['median']:.2f}" for m in models]),
        ("one message, p95 ms", [f"{m['speed']['p95_ms']['median']:.2f}" for m in models]),
        ("bulk, messages/s", [f"{m['speed']['messages_per_s']['median']:,.0f}" for m in models]),
    ]
    if all(m["space"] for m in models):
        rows += [
            ("suggest, all stages, ms", [f"{sum(stage['ms'] for stage in m['stages']):.2f}" for m in models]),
            ("index, MB", [f"{m['space']['index_bytes'] / 1e6:.1f}" for m in models]),
        ]
    return rows
