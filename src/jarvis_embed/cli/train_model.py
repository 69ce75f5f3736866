"""``jarvis-embed train pairs | threads | multitask | labels | reference | examine``: models of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.table import Table

from ..config import DEFAULT_MODEL, load_settings
from ..conversations.selection import SelectionReport
from ..errors import InputError
from ..home import home_folder
from ..models.lineage import Verdict
from ..models.store import find_model
from .output import HomeOption, JsonOption, count, out, print_json, progress_bar

DataOption = Annotated[Path | None, typer.Option("--data", help="Folder with public data files; see docs/training.md.")]
ParentOption = Annotated[
    str | None, typer.Option("--parent", help="Model to start from.", show_default="the one in use, else minilm-l6")
]
DeviceOption = Annotated[str, typer.Option(help="cpu, cuda, mps, or auto for the best that is here.")]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Go on with the run that was broken off.")]
ClassifiedOption = Annotated[bool, typer.Option(help="Also compare the classifiers, which takes some minutes.")]

NameOption = Annotated[
    str | None,
    typer.Option("--name", help="What the new model is called.", show_default="the parent's name and what it learned"),
]
RecipeOption = Annotated[
    str,
    typer.Option(
        "--recipe",
        help="own, frozen (maps alone, minutes), threads, threads-and-pairs, multitask, labels, chitchat, reference, "
        "reference-further, reference-last, reference-taught, or a JSON file.",
    ),
]
LimitOption = Annotated[int | None, typer.Option("--limit", min=1, help="Pairs at most.", show_default="the recipe's")]
SeedOption = Annotated[int | None, typer.Option("--seed", help="Of every draw.", show_default="the recipe's")]
ReportOnlyOption = Annotated[
    bool, typer.Option("--report-only", help="Say which pairs would be learned from, and train nothing.")
]

_SHOWN: Final = 12


def pairs(
    name: NameOption = None,
    recipe: RecipeOption = "own",
    parent: ParentOption = None,
    data: DataOption = None,
    limit: LimitOption = None,
    seed: SeedOption = None,
    device: DeviceOption = "auto",
    resume: ResumeOption = False,
    report_only: ReportOnlyOption = False,
    classified: ClassifiedOption = True,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train a model on pairs of your history, examine it beside its parent, and say whether it may be used.

    Broken off, it goes on with --resume.
    """
    _train_own(name, "own", recipe, parent, data, limit, seed, device, resume, report_only, classified, home, as_json)


def threads(
    name: NameOption = None,
    recipe: RecipeOption = "threads",
    with_pairs: Annotated[
        bool, typer.Option("--with-pairs", help="Learn from pairs too: the recipe threads-and-pairs.")
    ] = False,
    parent: ParentOption = None,
    data: DataOption = None,
    limit: LimitOption = None,
    seed: SeedOption = None,
    device: DeviceOption = "auto",
    resume: ResumeOption = False,
    report_only: ReportOnlyOption = False,
    classified: ClassifiedOption = True,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train a model on threads of your history: moments of one conversation shall lie together.

    Broken off, it goes on with --resume.
    """
    if with_pairs and recipe != "threads":
        raise InputError(
            "--with-pairs is a recipe of its own", "Leave it out, and let the recipe's single and context count"
        )
    chosen = "threads-and-pairs" if with_pairs else recipe
    _train_own(
        name, "threads", chosen, parent, data, limit, seed, device, resume, report_only, classified, home, as_json
    )


def multitask(
    name: NameOption = None,
    recipe: RecipeOption = "multitask",
    parent: ParentOption = None,
    data: DataOption = None,
    limit: LimitOption = None,
    seed: SeedOption = None,
    device: DeviceOption = "auto",
    resume: ResumeOption = False,
    report_only: ReportOnlyOption = False,
    classified: ClassifiedOption = True,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train a model on pairs, threads and the quality of replies at once; it comes with a quality head of its own.

    With --data it also learns from public judgements of replies. Broken off, it goes on with --resume.
    """
    _train_own(
        name, "multitask", recipe, parent, data, limit, seed, device, resume, report_only, classified, home, as_json
    )


def labels(
    name: NameOption = None,
    recipe: RecipeOption = "labels",
    parent: ParentOption = None,
    data: DataOption = None,
    seed: SeedOption = None,
    device: DeviceOption = "auto",
    resume: ResumeOption = False,
    classified: ClassifiedOption = True,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train a model to tell what kind of message a text is; its vectors stay nearly what they are.

    Learns from 27,200 labelled pairs of chitchat-dataset. Broken off, it goes on with --resume.
    """
    _train_own(name, "labelled", recipe, parent, data, None, seed, device, resume, False, classified, home, as_json)


def reference(
    data: Annotated[Path, typer.Option("--data", help="Folder with public data files; see docs/training.md.")],
    parent: ParentOption = DEFAULT_MODEL,
    chitchat_only: Annotated[
        bool, typer.Option("--chitchat-only", help="Learn from the chitchat corpus alone, as from one's own history.")
    ] = False,
    passes: Annotated[
        float | None,
        typer.Option(
            "--passes",
            min=0,
            help="How often the encoder sees a pair in the first recipe; the others keep their proportion to it.",
            show_default="the recipe's",
        ),
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option("--teacher", help="A finished larger model, from which it learns of threads at the end."),
    ] = None,
    device: DeviceOption = "auto",
    resume: ResumeOption = False,
    classified: ClassifiedOption = True,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train the models of docs/training-log.md again, from public conversations, with the seed of their recipe.

    Three recipes, one after the other: many pairs in a step, many segments, and triggers. What the first two leave is
    kept as PARENT-reference-begun and PARENT-reference-further. With --teacher there is a fourth: threads, as the
    teacher and what the third left (PARENT-reference-untaught) tell them apart. Broken off, or left at the third, it
    goes on with --resume.
    """
    from ..training.recipe import RECIPES

    root, begun = home_folder(home), parent or DEFAULT_MODEL
    if teacher is not None and chitchat_only:
        raise InputError("--teacher teaches of more than chitchat", "Leave out --teacher or --chitchat-only")
    names = ("chitchat",) if chitchat_only else ("reference", "reference-further", "reference-last")
    *before, last = (RECIPES[one] for one in names)
    if teacher is not None:
        find_model(teacher, root)  # said now, not after hours
        teachers = (f"{begun}-reference-untaught", teacher)
        before, last = [*before, last], RECIPES["reference-taught"].model_copy(update={"teachers": teachers})
    if passes is not None:
        share = passes / RECIPES[names[0]].passes
        *before, last = (one.model_copy(update={"passes": one.passes * share}) for one in (*before, last))
    stages = dict(zip(("begun", "further", "untaught"), before, strict=False))
    _train(f"{begun}-{names[0]}", last, begun, data, root, device, resume, classified, as_json, stages)


def examine(
    name: Annotated[str, typer.Argument(help="A model that was trained here.")],
    data: DataOption = None,
    classified: ClassifiedOption = True,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Examine a trained model again beside its parent, and say whether it may be used."""
    from ..training.model import examine as examine_model

    with progress_bar(hidden=as_json) as show:
        _, verdict = examine_model(name, home=home_folder(home), data=data, classified=classified, progress=show)
    if as_json:
        print_json({"name": name, "passed": verdict.passed, "verdict": verdict})
    else:
        _print_verdict(name, verdict)
    raise typer.Exit(0 if verdict.passed else 1)


def _train_own(
    name: str | None,
    suffix: str,
    recipe: str,
    parent: str | None,
    data: Path | None,
    limit: int | None,
    seed: int | None,
    device: str,
    resume: bool,
    report_only: bool,
    classified: bool,
    home: Path | None,
    as_json: bool,
) -> None:
    from ..training.recipe import load_recipe

    root = home_folder(home)
    chosen = load_recipe(recipe)
    changed: dict[str, Any] = {"pairs": limit, "seed": seed}
    chosen = chosen.model_copy(update={key: value for key, value in changed.items() if value is not None})
    begun = parent or load_settings(root).model
    if report_only:
        from ..training.ground import gather_reports

        reports = gather_reports(chosen, data, root)
        if as_json:
            print_json(reports)
        else:
            _print_selections(reports)
        return
    _train(name or f"{begun}-{suffix}", chosen, begun, data, root, device, resume, classified, as_json)


def _train(
    name: str,
    recipe: Any,
    parent: str,
    data: Path | None,
    root: Path,
    device: str,
    resume: bool,
    classified: bool,
    as_json: bool,
    stages: Any = None,
) -> None:
    from ..training.model import train_model

    with progress_bar(hidden=as_json) as show:
        trained = train_model(
            name,
            recipe,
            stages=stages,
            parent=parent,
            data=data,
            home=root,
            device=device,
            resume=resume,
            classified=classified,
            progress=show,
        )
    if as_json:
        stated = {"name": name, "folder": trained.folder, "passed": trained.verdict.passed, "run": trained.run}
        print_json({**stated, "selection": trained.selections, "verdict": trained.verdict})
    else:
        _print_selections(trained.selections)
        run = trained.run
        early = ", stopped early" if run.stopped_early else ""
        out.print(
            f"Trained {name} in {run.seconds / 60:.1f} min: {count(run.steps, 'step')}{early}; best at {run.best}."
        )
        _print_verdict(name, trained.verdict)
    raise typer.Exit(0 if trained.verdict.passed else 1)


def _print_selections(reports: Any) -> None:
    for source, report in reports.items():
        _print_selection(source, report)


def _print_selection(source: str, report: SelectionReport) -> None:
    out.print(
        f"{source}: {report.kept:,} of {count(report.seen, 'pair')} from {count(report.contacts, 'contact')}; "
        f"the largest has {100 * report.largest_contact:.1f} %",
        soft_wrap=True,
    )
    left = sorted(report.dropped.items(), key=lambda item: -item[1])[:_SHOWN]
    out.print("  left out: " + (" · ".join(f"{why} {n:,}" for why, n in left) or "none"), style="dim", soft_wrap=True)


def _print_verdict(name: str, verdict: Verdict) -> None:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 1, 0, 0))
    for heading in ("metric", "model", "parent", "difference", "needed", ""):
        table.add_column(heading, justify="left" if heading == "metric" else "right")
    for row in verdict.rows:
        needed = "above 0, surely" if row.surely else f"at least {row.allowed:+.3f}"
        difference = f"{row.difference:+.3f} ({row.low:+.3f} to {row.high:+.3f})"
        mark = "[green]✓[/]" if row.passed else "[red]✗[/]"
        table.add_row(row.metric, f"{row.value:.3f}", f"{row.parent:.3f}", difference, needed, mark)
    out.print(table)
    for metric in verdict.unmeasured:
        out.print(f"not measured: {metric}", style="yellow")
    if verdict.passed:
        out.print(f"{name} passed. Next: jarvis-embed build {name}, then: jarvis-embed use {name}", soft_wrap=True)
    else:
        out.print(f"{name} is refused: {verdict.reason}. It is kept for inspection.", soft_wrap=True)
