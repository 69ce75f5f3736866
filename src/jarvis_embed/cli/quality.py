"""Commands about how good replies were: feedback, and why a pair has the quality that it has."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer
from rich.table import Table

from ..conversations.quality_score import Explanation
from ..home import home_folder
from ..library import Library
from ..spaces.space import Space
from .output import HomeOption, JsonOption, PrecisionOption, one_line, out, print_json

app = typer.Typer(help="How good the replies of the history were.", no_args_is_help=True, rich_markup_mode=None)

PairArgument = Annotated[
    int, typer.Argument(metavar="PAIR", help="Number of the pair, as suggest and search show it.", show_default=False)
]


class Word(StrEnum):
    """What the owner may say of a reply."""

    good = "good"
    bad = "bad"
    none = "none"


@app.callback()
def quality() -> None:
    """How good the replies of the history were."""


def feedback(
    pair: PairArgument,
    word: Annotated[Word, typer.Argument(help="good, bad, or none to take it back.", show_default=False)],
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say of a reply that it was good or bad. Suggestions heed it at once, training from its next run on."""
    with Library.open(home_folder(home)) as library:
        library.give_feedback(pair, None if word is Word.none else word is Word.good)
        total = len(library.feedback())
    if as_json:
        print_json({"pair": pair, "feedback": word.value, "total": total})
        return
    kept = "is taken back" if word is Word.none else f"is kept: {word.value}"
    out.print(f"What you said of pair {pair} {kept}. {total:,} of your replies have feedback.", soft_wrap=True)


@app.command()
def explain(
    pair: PairArgument,
    model: Annotated[
        str | None, typer.Option("--model", help="Model whose space is asked.", show_default="in use")
    ] = None,
    precision: PrecisionOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show every signal of a reply, its value, what it contributes, and which are not available."""
    with Space.open(model, home=home_folder(home), precision=precision) as space:
        found = space.explain_quality(pair)
        (said,) = space.library.pairs([pair])
    if as_json:
        print_json({"pair": pair, **_as_dict(found)})
        return
    out.print(f"“{one_line(said.trigger, 160)}”\n→ “{one_line(said.response, 160)}”\n", markup=False)
    out.print(_table(found))
    out.print(f"\nSignals together: {found.estimate:.2f} (worth {found.raters:.2f} raters)")
    for judgement in found.judgements:
        out.print(f"{judgement.name}: {judgement.value:.2f} (worth {judgement.raters:.2f} raters)", markup=False)
    out.print(f"Quality: {found.score:.2f}", style="bold")
    if found.unavailable:
        out.print(f"\nNot available here: {', '.join(found.unavailable)}", style="dim", soft_wrap=True)


def _table(found: Explanation) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("signal")
    table.add_column("value", justify="right")
    table.add_column("log odds", justify="right")
    table.add_column("", style="dim", overflow="fold")
    for part in found.signals:
        value = "–" if part.value is None else f"{part.value:.2f}"
        table.add_row(part.name, value, f"{part.contribution:+.2f}", part.meaning)
    return table


def _as_dict(found: Explanation) -> dict[str, object]:
    return {
        "quality": found.score,
        "estimate": found.estimate,
        "raters": found.raters,
        "signals": {
            part.name: {"value": part.value, "contribution": part.contribution, "meaning": part.meaning}
            for part in found.signals
        },
        "judgements": {one.name: {"value": one.value, "raters": one.raters} for one in found.judgements},
        "unavailable": found.unavailable,
    }
