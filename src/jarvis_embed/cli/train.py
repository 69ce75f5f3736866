"""``jarvis-embed train``: what learns from messages and labels."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from ..errors import LabelError, SourceError
from ..home import home_folder
from ..labels.gold import Example, gold_examples
from ..labels.own import own_examples, own_labels
from ..labels.scheme import TASKS
from ..library import Library
from ..models.encoder import load_encoder
from ..models.machine import usable_cores
from ..spaces.heads_store import replace_heads, require_space
from . import train_model, train_quality
from .output import HomeOption, JsonOption, PrecisionOption, count, err, out, print_json, progress_bar

app = typer.Typer(help="Train models and classifiers.", no_args_is_help=True, rich_markup_mode=None)
app.command("pairs")(train_model.pairs)
app.command("threads")(train_model.threads)
app.command("multitask")(train_model.multitask)
app.command("labels")(train_model.labels)
app.command("reference")(train_model.reference)
app.command("examine")(train_model.examine)
app.command("quality")(train_quality.quality)


@app.callback()
def train() -> None:
    """Train models and classifiers."""


@app.command()
def heads(
    model: Annotated[
        str | None, typer.Argument(help="Model whose space gets them.", show_default="the one in use")
    ] = None,
    gold: Annotated[
        bool, typer.Option(help="Learn from the gold labels of the package too, not only your own.")
    ] = True,
    seed: Annotated[int, typer.Option(help="How conversations are dealt out in cross-validation.")] = 1,
    precision: PrecisionOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train the classifiers of a space on gold labels and your own, and switch to them. Needs scikit-learn.

    Takes half a minute on two cores, and two minutes the first time in a space of your own. The texts of the gold
    labels come from the package chitchat-dataset.
    """
    from ..training.heads import require_scikit_learn, train_heads

    start = time.perf_counter()
    root = home_folder(home)
    require_scikit_learn()
    encoder = load_encoder(model, home=root, precision=precision, threads=usable_cores())
    require_space(encoder, root)  # said now, not after the training
    examples, own, gone = _examples(root, gold=gold)
    with progress_bar(hidden=as_json) as show:
        trained = train_heads(encoder, examples, seed=seed, own=own, home=root, progress=show)
    generation = replace_heads(encoder, root, trained)
    if as_json:
        print_json({"model": encoder.name, "generation": generation, "gone": gone, **trained.facts})
        return
    for task in TASKS:
        facts = trained.facts[task]
        out.print(
            f"{task}: {count(facts['examples'], 'message')} of {count(facts['conversations'], 'conversation')}, "
            f"macro F1 {facts['cross_validated_macro_f1']:.3f} in cross-validation"
        )
    if gone:
        err.print(f"note: {count(gone, 'label')} of yours name turns that are no more", style="yellow")
    out.print(
        f"Trained in {time.perf_counter() - start:.1f} s; generation {generation} of {encoder.name} has them. "
        f"Undo: jarvis-embed rollback",
        soft_wrap=True,
    )


def _examples(home: Path, *, gold: bool) -> tuple[list[Example], int, int]:
    """Gold labels of the training part and the user's own; how many are own, and how many of those are gone."""
    with Library.open(home) as library:
        own, gone = own_examples(own_labels(home), library.turn_texts)
    if not gold:
        return own, len(own), gone
    try:
        return [*gold_examples("train"), *own], len(own), gone
    except SourceError as error:
        raise LabelError(
            "the texts of the gold labels are not installed",
            "pip install chitchat-dataset, or train on your own labels alone: --no-gold",
        ) from error
