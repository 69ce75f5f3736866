"""``jarvis-embed demo``: the main job on real conversations, from nothing to suggestions."""

from __future__ import annotations

import random
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Final

import typer

from ..conversations.pairs import pairs_in
from ..home import embeddings_folder, home_folder
from ..library import Library
from ..messages import Pair
from ..models.encoder import load_encoder
from ..models.machine import usable_cores
from ..models.store import model_home
from ..pipeline import Suggestion, suggest
from ..sources import open_source
from ..spaces.build import build
from ..spaces.space import Space
from .ask import median_timings
from .output import HomeOption, JsonOption, count, one_line, out, print_json, progress_bar, waterfall

_QUESTIONS: Final = 10


@dataclass(frozen=True, slots=True)
class Comparison:
    """A suggestion next to what the person really answered."""

    suggestion: Suggestion
    pair: Pair


def demo(
    home: HomeOption = None,
    seed: Annotated[int, typer.Option(help="Which messages of the validation part are asked.")] = 1,
    threads: Annotated[int | None, typer.Option(min=1, help="Cores to use.", show_default="all")] = None,
    as_json: JsonOption = False,
) -> None:
    """Run the main job on 6,253 real conversations: ingest, build, and suggest replies to unseen messages.

    Everything lies in the folder "demo" of the home, apart from your own messages.
    """
    root = home_folder(home) / "demo"
    start = time.perf_counter()
    with progress_bar(hidden=as_json) as show:
        with Library.open(root) as library:
            report = library.ingest(open_source("chitchat", split="train"), lambda d, n: show("ingest", d, n))
        ingested = time.perf_counter()
        encoder = load_encoder(home=root, threads=threads or usable_cores(), cache=0)  # asked twice, computed twice
        built = build(encoder, root, progress=show)
        done = time.perf_counter()
    if not as_json:
        out.print(f"[bold]1 · Ingest[/]  {count(report.read, 'message')} in {ingested - start:.1f} s")
        out.print(
            f"[bold]2 · Build[/]   {built.texts:,} different texts of {count(built.pairs, 'pair')} "
            f"with {encoder.name} ({encoder.precision}) in {done - ingested:.1f} s\n"
        )
    with Space.open(home=root, encoder=encoder) as space:
        questions = _questions(seed)
        comparisons = [
            Comparison(suggest(pair.trigger, pair.context, k=1, space=space, home=root), pair) for pair in questions
        ]
        again = [suggest(pair.trigger, pair.context, k=3, space=space, home=root) for pair in questions]
    medians = median_timings(again)  # of the second time: the first one reads files that are not in memory yet
    if as_json:
        where = {name: str(path) for name, path in _where(root, encoder.name)}
        print_json(
            {
                "ingest": asdict(report),
                "build": built,
                "comparisons": comparisons,
                "median_timings": medians,
                "where": where,
            }
        )
        return
    out.print("[bold]3 · Suggest[/]  to messages of conversations that were not ingested\n")
    for comparison in comparisons:
        _show(comparison)
    out.print(f"[bold]4 · Time[/]  from a message to three replies, median of {len(again)}, warm\n")
    out.print(waterfall(medians))
    out.print("\n[bold]5 · Where everything lies[/]\n")
    for name, path in _where(root, encoder.name):
        out.print(f"  {name:<9} {path}", markup=False, soft_wrap=True)
    out.print(f'\nNext: jarvis-embed suggest "wanna grab lunch?" --home {root}', markup=False, soft_wrap=True)


def _questions(seed: int) -> list[Pair]:
    """A few pairs of the validation part, drawn by ``seed`` from triggers of ordinary length."""
    pairs = [
        pair
        for pair in pairs_in(open_source("chitchat", split="validation").conversations())
        if 12 <= len(pair.trigger) <= 100
    ]
    return random.Random(seed).sample(pairs, _QUESTIONS)  # noqa: S311  no secret depends on it


def _show(comparison: Comparison) -> None:
    suggestion = comparison.suggestion
    out.print(f"  message    {one_line(comparison.pair.trigger, 100)}", style="bold", markup=False)
    for reply in suggestion.replies:
        out.print(f"  suggested  {one_line(reply.text, 100)}", style="green", markup=False)
        origin = f"(to “{one_line(reply.pair.trigger, 70)}”, cosine {reply.similarity:.2f})"
        out.print(f"             {origin}", style="dim", markup=False)
    if not suggestion.replies:
        nearest = f"nothing good (nearest cosine {suggestion.nearest:.2f}, needed {suggestion.threshold:.2f})"
        out.print(f"  suggested  {nearest}", style="yellow", markup=False)
    out.print(f"  really     {one_line(comparison.pair.response, 100)}\n", markup=False)


def _where(root: Path, model: str) -> list[tuple[str, Path]]:
    return [
        ("messages", embeddings_folder(root) / "library.db"),
        ("space", model_home(model, root) / "generations"),
        ("encoder", model_home(model, root) / "compiled"),
    ]
