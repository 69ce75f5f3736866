"""The last comparison as one HTML file that needs nothing else: pictures, tables, and how each number was made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from . import bench_report, plots
from .comparison import Json, called, deciding_keys, key_of, model_of, points, row_of
from .plots import BEFORE, require_matplotlib

_CLASSIFIERS: Final = ("trigger_f1", "response_f1")

HOW: Final = (
    ("Intervals", "95 % percentile intervals over {draws:,} draws of whole conversations (for an own history, of "
     "exchanges) with replacement. A difference is paired: both models see the same draws. Points are hundredths."),
    ("One message", "Text to vector, in a warm process. All models are timed in one run with {threads} threads each; "
     "they take turns in blocks of 50 messages, in an order drawn anew, with a pause before each. Median over three "
     "rounds of each round's p50 and p95; in brackets the lowest and the highest round. {messages:,} different texts "
     "of the held-out conversations to draw from."),
    ("Bulk", "The same texts, up to 500 in one call; messages a second, median of three rounds."),
    ("Suggest", "Median time of each stage over 50 held-out messages, asked a second time. “Before” is what the "
     "assistant’s own description states for its pipeline, on its machine: it was not measured here. Writing a reply "
     "with a language model, 200–500 ms there, is in neither."),
    ("trigger F1, response F1", "Macro F1 of the two classifiers of messages on the gold labels of "
     "chitchat’s validation part, given by reading; trained for each model on those of its training part. A classifier "
     "counts with its likeliest label, also where it would rather give none."),
    ("Reply similarity", "How alike the true reply and the reply to the nearest indexed trigger are, as a frozen, "
     "untuned minilm-l6 in fp32 judges. Random replies reach the floor, the best ones in the index the ceiling."),
    ("Response accuracy", "How often the true reply has the highest cosine among itself and 99 others."),
    ("General similarity", "Spearman correlation with human judgements of sentence pairs (STS-B)."),
    ("Threads", "Cosines of two segments of 5 turns: every two of one thread, and 100,000 random pairs of different "
     "threads. Only the distance between the two heaps says something: models have different scales."),
    ("Other half of a thread", "How often the other half of a conversation is the nearest by cosine among 1,000 halves "
     "(recall@1), both ways; held-out conversations, filled up with others."),
    ("Map of threads", "Six random threads of 3 to 8 segments, and 400 other segments of the space, on the two first "
     "principal components of their vectors."),
    ("Map", "The same {mapped} different triggers of the space for every model, on the two first principal components "
     "of their vectors. What lies far apart is unlike; what lies together need not be alike."),
    ("Index", "Bytes of the search index; recall@10 against comparing all triggers."),
    ("Shapes", "A model that is not present is never given a figure of quality. Its time is that of a network of its "
     "shape with random weights."),
    ("Recommendation", "The fastest model that, on each deciding figure, is 97.5 % sure to lose at most 2 points "
     "against the best one, or loses at most 1 point as measured and may lose nothing."),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture of the page: what it is called, what it shows in words, and the SVG."""

    title: str
    alt: str
    svg: str


@dataclass(frozen=True, slots=True)
class Section:
    """A heading with a sentence, and its pictures; where there are none, ``needs`` says why."""

    title: str
    about: str
    pictures: tuple[Picture, ...]
    needs: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table: what, on what, and a cell for each model: (main, below it)."""

    title: str
    on: str
    cells: tuple[tuple[str, str], ...]


def render(comparison: Json, texts: Mapping[int, str] | None = None, bench: Json | None = None) -> str:
    """The page.

    Args:
        comparison: as stored.
        texts: pair → its trigger, to be shown in the map; None to have no message in the page.
        bench: the JSON of ``jarvis-embed bench``, whose tables are added.

    Raises:
        EvaluationError: matplotlib or jinja2 is not installed.
    """
    require_matplotlib()
    import jinja2

    found = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    template = found.from_string((Path(__file__).parent / "report.html.j2").read_text(encoding="utf-8"))
    mapped = max((len(model["map"]["points"]) for model in comparison["models"] if model["map"]), default=0)
    facts = {name: comparison[name] for name in ("draws", "threads", "messages")} | {"mapped": mapped}
    return template.render(
        comparison=comparison,
        reason=comparison["recommendation"]["reason"],
        sections=list(_sections(comparison, texts or {})),
        rows=list(_rows(comparison)),
        how=[(title, text.format(**facts)) for title, text in HOW],
        bench=None if bench is None else (bench_report.machine(bench), bench_report.how(bench)),
        tables=[] if bench is None else [(table, bench_report.columns(table)) for table in bench_report.tables(bench)],
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        with_text=bool(texts),
    )


def _sections(comparison: Json, texts: Mapping[int, str]) -> Iterator[Section]:
    yield _waterfalls(comparison)
    yield _paretos(comparison)
    yield _classes(comparison)
    yield _confusions(comparison)
    yield _calibrations(comparison)
    yield _threads(comparison)
    yield _thread_maps(comparison)
    yield _maps(comparison, texts)


def _waterfalls(comparison: Json) -> Section:
    title, about = "From a message to suggestions", "Stage by stage: before, and now with each model."
    models = [model for model in comparison["models"] if model["stages"]]
    if not models:
        return Section(title, about, (), "needs messages: jarvis-embed ingest SOURCE")
    chosen = model_of({"models": models}, comparison["recommendation"]["model"]) or models[0]
    low, high = sum(stage[1] for stage in BEFORE), sum(stage[2] for stage in BEFORE)
    before = ", ".join(f"{name} {a:.0f} to {b:.0f} ms" for name, a, b in BEFORE)
    pictures = [
        Picture(
            f"before and now, {chosen['name']}",
            f"Before, as stated: {before}, together {low:.0f} to {high:.0f} ms. Now, measured: {_stages(chosen)}.",
            plots.waterfall_before_after(chosen["stages"]),
        )
    ]
    longest = max(sum(stage["ms"] for stage in model["stages"]) for model in models)
    pictures += [
        Picture(
            f"{model['name']}: {sum(stage['ms'] for stage in model['stages']):.1f} ms",
            f"Stages of suggest with {model['name']}: {_stages(model)}.",
            plots.waterfall(model["name"], model["stages"], longest),
        )
        for model in models
    ]
    return Section(title, about, tuple(pictures))


def _stages(model: Json) -> str:
    total = sum(stage["ms"] for stage in model["stages"])
    return ", ".join(f"{s['stage']} {s['ms']:.2f} ms" for s in model["stages"]) + f", together {total:.1f} ms"


def _paretos(comparison: Json) -> Section:
    models = comparison["models"]
    title = "Quality against time"
    about = "The line joins the models that no other beats in both. Whiskers are 95 % intervals."
    pictures = []
    for key in deciding_keys(models):
        rows = [row_of(model, key) for model in models]
        name, *where = key.split(" · ")
        said = "; ".join(
            f"{model['name']} {row['value']:.3f} at {model['speed']['p50_ms']['median']:.2f} ms"
            for model, row in zip(models, rows, strict=True)
        )
        shapes = "; ".join(
            f"{one['name']} has no weights here, its shape takes {one['shape_speed']['p50_ms']['median']:.2f} ms"
            for one in comparison["absent"]
            if one["shape_speed"]
        )
        alt = f"{called(name)} against the time of one message: {said}. {shapes}".strip()
        svg = plots.pareto(models, rows, comparison["absent"], name)
        pictures.append(Picture(f"{called(name)}, {', '.join(where)}", alt, svg))
    return Section(title, about, tuple(pictures), "" if pictures else "needs a history of 100 held-out pairs")


def _classes(comparison: Json) -> Section:
    title, about = (
        "F1 of each class",
        "How well each kind of message is recognised, by model. Whiskers are 95 % intervals.",
    )
    pictures = []
    for name in _CLASSIFIERS:
        figures = {model["name"]: model["labels"][name] for model in comparison["models"] if name in model["labels"]}
        if figures:
            said = "; ".join(
                f"{model}: " + ", ".join(f"{figure['label']} {figure['value']:.2f}" for figure in of_model)
                for model, of_model in figures.items()
            )
            pictures.append(Picture(called(name), f"F1 of each class. {said}.", plots.class_bars(name, figures)))
    return Section(title, about, tuple(pictures), "" if pictures else _needed(comparison))


def _confusions(comparison: Json) -> Section:
    title = "What is taken for what"
    about = "Rows: the gold label; columns: the label given; a number counts turns, the shade is its share of the row."
    pictures = []
    for name in _CLASSIFIERS:
        for model in comparison["models"]:
            if name in model["confusions"]:
                labels, counts = (model["confusions"][name][part] for part in ("labels", "counts"))
                right = sum(counts[place][place] for place in range(len(labels)))
                alt = (
                    f"Confusion of {len(labels)} labels with {model['name']}: "
                    f"{right} of {sum(map(sum, counts))} turns are right."
                )
                svg = plots.confusion(f"{name}-{model['name']}", labels, counts)
                pictures.append(Picture(f"{model['name']}, {called(name).removesuffix(' F1')} labels", alt, svg))
    return Section(title, about, tuple(pictures), "" if pictures else _needed(comparison))


def _calibrations(comparison: Json) -> Section:
    title = "Is a reply as good as the model says?"
    about = "Replies that people rated, in ten parts by predicted quality; on the line, people agree with the model."
    pictures = []
    for model in comparison["models"]:
        if bins := model.get("calibration"):  # a comparison of an earlier version has none
            alt = (
                f"Calibration of {model['name']}: of the replies it finds worst people place the mean at "
                f"{bins[0]['rated']:.2f} of 1, of those it finds best at {bins[-1]['rated']:.2f}."
            )
            pictures.append(Picture(model["name"], alt, plots.calibration(model["name"], bins)))
    return Section(title, about, tuple(pictures), "" if pictures else "needs a quality head, and quality_dev in --data")


def _threads(comparison: Json) -> Section:
    title = "Same thread, other thread"
    about = "The farther apart the two heaps, the better a model tells what belongs together."
    pictures = []
    for model in comparison["models"]:
        parent = model_of(comparison, model.get("parent") or "")
        for place, heap in enumerate(model["threads"]):
            figures = _heaps(model, heap["on"])
            name, said, before = f"{model['name']}, {heap['on']}: {figures}", figures, None
            if parent is not None:
                before = next((one for one in parent["threads"] if one["on"] == heap["on"]), None)
                said += f"; before, with {parent['name']}: {_heaps(parent, heap['on'])}" if before else ""
            pictures.append(
                Picture(
                    name if before is None else f"{name} (before: {_heaps(parent, heap['on'])})",
                    f"Cosines of segments of one thread and of different ones with {model['name']}: {said}.",
                    plots.thread_histogram(f"{model['name']}-{place}", heap, before),
                )
            )
    return Section(title, about, tuple(pictures), "" if pictures else "needs two threads of 10 turns")


def _heaps(model: Json | None, on: str) -> str:
    """Both means and the AUC: one of them alone says nothing."""
    if model is None:
        return ""
    same, other, auc = (row_of(model, f"thread_similarity_{part} · {on}") for part in ("same", "other", "auc"))
    return f"mean {same['value']:.2f} and {other['value']:.2f}, AUC {auc['value']:.3f}"


def _thread_maps(comparison: Json) -> Section:
    title = "A map of threads"
    about = "A line joins the parts of one conversation in their order; grey are parts of others."
    pictures = []
    for model in comparison["models"]:
        if model.get("thread_map"):
            threads, around = model["thread_map"]["threads"], model["thread_map"]["around"]
            share = f"{model['thread_map']['explained']:.0%} of the variance"
            alt = (
                f"{len(threads)} threads of the space of {model['name']}, {sum(map(len, threads))} segments, "
                f"among {len(around)} others, on two principal components, {share}."
            )
            pictures.append(Picture(f"{model['name']}, {share}", alt, plots.thread_map(model["name"], threads, around)))
    return Section(title, about, tuple(pictures), "" if pictures else "needs a history with threads of 15 turns")


def _maps(comparison: Json, texts: Mapping[int, str]) -> Section:
    title = "A map of triggers"
    pictures, labelled = [], False
    for model in comparison["models"]:
        if model["map"]:
            dots = model["map"]["points"]
            labelled = labelled or any(dot["label"] for dot in dots)
            share = f"{model['map']['explained']:.0%} of the variance"
            alt = f"{len(dots)} triggers of the space of {model['name']} on two principal components, {share}."
            pictures.append(Picture(f"{model['name']}, {share}", alt, plots.trigger_map(model["name"], dots, texts)))
    about = "Each dot is a message that was answered"
    about += ", coloured by its likeliest label." if labelled else "; colours need classifier heads."
    about += " Rest the pointer on a dot to read it." if texts else ""
    return Section(title, about, tuple(pictures), "" if pictures else "needs messages: jarvis-embed ingest SOURCE")


def _needed(comparison: Json) -> str:
    rows = comparison["models"][0]["metrics"]
    return next((row["needs"] for row in rows if row["name"] in _CLASSIFIERS and row["needs"]), "")


def _rows(comparison: Json) -> Iterator[Row]:
    """The whole table: every figure with its interval and its difference to the baseline, then times and sizes."""
    models, baseline = comparison["models"], comparison["baseline"]
    for row in models[0]["metrics"]:
        name, key = called(row["name"]), key_of(row)
        where = ", ".join(part for part in (row["on"], row["variant"]) if part)
        yield Row(name, where, tuple(_quality(model, key, baseline) for model in models))
    for title, figure in (
        ("one message, p50 ms", "p50_ms"),
        ("one message, p95 ms", "p95_ms"),
        ("bulk, messages/s", "messages_per_s"),
    ):
        digits = 0 if figure == "messages_per_s" else 2
        cells = []
        for spread in (model["speed"][figure] for model in models):
            low, high = f"{spread['low']:,.{digits}f}", f"{spread['high']:,.{digits}f}"
            cells.append((f"{spread['median']:,.{digits}f}", f"{low}–{high}"))
        yield Row(title, f"{comparison['threads']} threads", tuple(cells))
    if all(model["space"] for model in models):
        spaces = [model["space"] for model in models]
        on = f"{spaces[0]['triggers']:,} triggers"
        yield Row("index, MB", on, tuple((f"{s['index_bytes'] / 1e6:.1f}", s["index"]) for s in spaces))
        yield Row("whole space, MB", on, tuple((f"{s['bytes'] / 1e6:.1f}", "") for s in spaces))
        yield Row("recall@10", on, tuple((f"{s['recall_at_10']:.3f}", f"{s['search_ms']:.2f} ms") for s in spaces))
    yield Row(
        "layers", "", tuple((str(model["layers"]), f"{model['precision']}, {model['engine']}") for model in models)
    )


def _quality(model: Json, key: str, baseline: str) -> tuple[str, str]:
    row = row_of(model, key)
    if row["value"] is None:
        return "not measured", row["needs"]
    below = f"{row['interval']['low']:.3f}–{row['interval']['high']:.3f}"
    difference = model["against"].get(baseline, {}).get(key)
    if difference is not None:
        below += f"; {points(difference, signed=True)}"
    return f"{row['value']:.3f}", below
