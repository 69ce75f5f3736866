"""``jarvis-embed train quality``: what a good reply is, from public ratings and the owner's feedback."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from ..config import load_settings
from ..home import home_folder
from ..models.encoder import load_encoder
from ..models.quality_store import remove_own_head
from ..models.store import find_model
from .output import HomeOption, JsonOption, PrecisionOption, count, out, print_json, progress_bar


def quality(
    model: Annotated[
        str | None, typer.Argument(help="Model that gets a quality head.", show_default="the one in use")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Folder with public files; without it, only your feedback is learned from."),
    ] = None,
    steps: Annotated[int, typer.Option(min=2, help="Steps of the head; 0.2 s each on one core.")] = 1500,
    undo: Annotated[
        bool, typer.Option("--undo", help="Remove the head that this command trained: the model's own counts again.")
    ] = False,
    precision: PrecisionOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Learn what a good reply is: the weights of signals from your feedback, and with --data a model's quality head.

    Without --data, feedback on 20 replies or more, good and bad, is added to what public ratings said. With it, a
    quality head is trained for the model, and the weights are fitted anew. The next build scores all pairs by that.
    """
    root = home_folder(home)
    if undo:
        name = find_model(model or load_settings(root).model, root).name
        removed = remove_own_head(name, root)
        if as_json:
            print_json({"model": name, "removed": removed})
        elif removed:
            out.print(f"Removed. Score all pairs anew: jarvis-embed build {name}", soft_wrap=True)
        else:
            out.print(f"No quality head was trained for {name}.", soft_wrap=True)
        return
    from ..training.quality_run import train_quality

    start = time.perf_counter()
    encoder = load_encoder(model, home=root, precision=precision, cache=0)
    with progress_bar(hidden=as_json) as show:
        found = train_quality(encoder, root, data=data, steps=steps, progress=show)
    if as_json:
        print_json(found)
        return
    if found.head is not None:
        out.print(f"Quality head of {encoder.name}: learned from {count(found.pairs, 'pair')}.", soft_wrap=True)
    for name, value in found.left_out.items():
        out.print(f"  rank correlation with {name}, left out of the fit: {value:.3f}", markup=False)
    out.print(
        f"Weights of signals: rated replies {found.rated:,}, of them with your feedback {found.feedback:,}. "
        f"Took {time.perf_counter() - start:.0f} s. Score all pairs by them: jarvis-embed build {encoder.name}",
        soft_wrap=True,
    )
