"""The command ``jarvis-embed``. Exit codes: 0 done, 1 it could not be done, 2 the command was not understood."""

from __future__ import annotations

import json
import logging
import sys

import typer

from ..errors import JarvisEmbedError
from . import (
    ask,
    bench,
    classify,
    compare,
    demo,
    doctor,
    exam,
    history,
    labels,
    models,
    purge,
    quality,
    report,
    threads,
    train,
    watch,
)
from .output import err

app = typer.Typer(
    name="jarvis-embed",
    help="Turn your own message history into a fast, private vector space, and find how you answered before.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(demo.demo)
app.command()(history.ingest)
app.add_typer(models.app, name="models")
app.command()(history.build)
app.command()(history.use)
app.command()(history.rollback)
app.command()(ask.suggest)
app.command()(ask.search)
app.command()(classify.classify)
app.add_typer(threads.app, name="threads")
app.command()(quality.feedback)
app.add_typer(quality.app, name="quality")
app.add_typer(labels.app, name="labels")
app.add_typer(train.app, name="train")
app.command()(exam.exam)
app.command()(compare.compare)
app.command()(report.report)
app.command()(bench.bench)
app.command()(watch.watch)
app.command()(doctor.doctor)
app.command()(purge.purge)


def main() -> None:
    """Run the command line; an error of ours is one line and exit code 1."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    try:
        app()
    except JarvisEmbedError as error:
        if "--json" in sys.argv:
            described = {"error": type(error).__name__, "problem": error.problem, "next_step": error.next_step}
            typer.echo(json.dumps(described, ensure_ascii=False))
        else:
            err.print(f"[bold red]error:[/] {error}", soft_wrap=True)
        sys.exit(1)
    except KeyboardInterrupt:
        err.print("stopped; the same command goes on where it was")
        sys.exit(1)
