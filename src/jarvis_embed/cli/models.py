"""``jarvis-embed models``: which models there are, and where their weights come from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table

from ..config import load_settings
from ..home import home_folder
from ..models.hub import pull as pull_weights
from ..models.registry import model_spec
from ..models.store import Presence, add_model, all_models, model_home, pulled_folder, remove_model
from ..spaces.generations import read_pointer
from .bench import tune
from .output import HomeOption, JsonOption, err, out, print_json

app = typer.Typer(
    help="List, download, add, remove and tune models.", invoke_without_command=True, rich_markup_mode=None
)
app.command()(tune)


@dataclass(frozen=True, slots=True)
class ModelRow:
    """One line of the list; ``space`` is the current generation."""

    name: str
    in_use: bool
    weights: str
    folder: Path | None
    space: str | None
    layers: int | None
    licence: str | None
    download_mb: int | None


@app.callback()
def models(context: typer.Context, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Without a subcommand: the list."""
    if context.invoked_subcommand is None:
        list_models(home, as_json)


@app.command("list")
def list_models(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Show every model, whether its weights are here, and which space answers."""
    root = home_folder(home)
    in_use = load_settings(root).model
    rows = [_row(presence, root, in_use) for presence in all_models(root)]
    if as_json:
        print_json({"models": rows})
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("", "model", "layers", "size", "licence", "weights", "space"):
        table.add_column(heading)
    for row in rows:
        table.add_row(
            "→" if row.in_use else "",
            row.name,
            str(row.layers or "–"),
            f"{row.download_mb} MB" if row.download_mb else "–",
            row.licence or "–",
            row.weights if row.folder else f"[yellow]not present: models pull {row.name}[/]",
            f"generation {row.space}" if row.space else "–",
        )
    out.print(table)


@app.command()
def pull(
    name: Annotated[str, typer.Argument(help="Model of the list to download.")],
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Download a model's weights at their pinned revision; broken off, it goes on where it was."""
    root = home_folder(home)
    spec = model_spec(name)
    folder = pulled_folder(name, root)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, disable=as_json) as bars:
        tasks: dict[str, TaskID] = {}

        def show(file: str, done: int, total: int) -> None:
            if file not in tasks:
                tasks[file] = bars.add_task(file, total=total)
            bars.update(tasks[file], completed=done, total=total)

        pull_weights(spec, folder, show)
    if as_json:
        print_json({"name": name, "folder": folder})
    else:
        out.print(f"{name} is here. Next: jarvis-embed build {name}")


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="A name of the list, or one of your own.")],
    folder: Annotated[Path, typer.Argument(help="Folder in sentence-transformers layout; it stays where it is.")],
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Use the weights in a folder under a name."""
    model = add_model(name, folder, home_folder(home))
    if as_json:
        print_json({"name": name, "folder": model.folder})
    else:
        out.print(
            f"{name}: {model.config.layers} layers × {model.config.hidden}, {model.pooling} pooling, "
            f"{model.max_length} tokens. Next: jarvis-embed build {name}"
        )


@app.command()
def remove(
    name: Annotated[str, typer.Argument(help="Model whose added folder is forgotten or whose download is deleted.")],
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Forget an added folder, or delete downloaded weights. Spaces stay."""
    removed = remove_model(name, home_folder(home))
    if as_json:
        print_json({"name": name, "removed": removed})
    else:
        out.print(f"{name} was removed." if removed else f"{name} was neither added nor downloaded.")


def _row(presence: Presence, root: Path, in_use: str) -> ModelRow:
    pointer, spec = read_pointer(model_home(presence.name, root)), presence.spec
    return ModelRow(
        name=presence.name,
        in_use=presence.name == in_use,
        weights=presence.way,
        folder=presence.folder,
        space=pointer.current if pointer else None,
        layers=spec.layers if spec else None,
        licence=spec.licence if spec else None,
        download_mb=spec.download_mb if spec else None,
    )
