"""``jarvis-embed report``: the last comparison as a page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import InputError
from ..evaluation.comparison import needed_comparison, report_path
from ..evaluation.report import render
from ..home import home_folder, write_private
from ..library import Library
from .output import HomeOption, JsonOption, one_line, out, print_json


def report(
    output: Annotated[
        Path | None, typer.Option(help="File for the page.", show_default="embeddings/report.html in the home")
    ] = None,
    bench: Annotated[
        Path | None, typer.Option(help="JSON of a benchmark (bench --output), to be shown as well.")
    ] = None,
    with_text: Annotated[bool, typer.Option("--with-text", help="Show messages in the map of triggers.")] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the last comparison as one HTML page that opens from disk and needs nothing else."""
    root = home_folder(home)
    comparison = needed_comparison(root)
    path = output or report_path(root)
    texts = _texts(comparison, root) if with_text else None
    write_private(path, render(comparison, texts, None if bench is None else _benchmark(bench)).encode("utf-8"))
    if as_json:
        print_json({"page": path, "recommendation": comparison["recommendation"], "with_text": bool(texts)})
        return
    out.print(comparison["recommendation"]["reason"], markup=False, soft_wrap=True)
    out.print(f"Page: {path}", markup=False, soft_wrap=True)


def _benchmark(path: Path) -> Any:
    try:
        stated = json.loads(path.read_text(encoding="utf-8"))
        if stated["schema"] == 1 and stated["rows"]:
            return stated
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is no benchmark", "Make one: jarvis-embed bench --output FILE") from error
    raise InputError(
        f"{path} is a benchmark of another version, or empty", "Make one: jarvis-embed bench --output FILE"
    )


def _texts(comparison: dict[str, Any], home: Path) -> dict[int, str]:
    """Pair → its trigger, of all pairs in the maps.

    Raises:
        InputError: there is no map, or its pairs are not of this library.
    """
    ids = {point["pair"] for model in comparison["models"] if model["map"] for point in model["map"]["points"]}
    with Library.open(home) as library:
        if not ids or library.id != comparison["library"]:
            raise InputError("the last comparison has no map of this history", "Compare again: jarvis-embed compare")
        return {pair.id: one_line(pair.trigger, 120) for pair in library.pairs(sorted(ids))}
