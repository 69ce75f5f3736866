"""The report's pictures, drawn by matplotlib as SVG that stands in the page: no scripts, the page's fonts and colours.

A picture is about as wide as a phone's screen and is never scaled down much, so that its writing stays readable; on a
wide screen several stand side by side. Colours are the names of the page's own (``var(--…)``), so that they follow the
reader's light or dark setting: matplotlib draws in stand-ins, which are replaced afterwards.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from html import escape
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ..errors import EvaluationError
from ..labels.scheme import LABELS
from .comparison import Json, called

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BEFORE: Final = (("embed", 100.0, 150.0), ("search", 5.0, 10.0), ("classify", 15.0, 30.0))
"""The pipeline that this project set out to make faster, in ms, as its assistant states it: not measured here."""

INK, MUTED, GRID, PAPER = "#010101", "#020202", "#030303", "#040404"
SERIES: Final = ("#100001", "#100002", "#100003", "#100004", "#100005", "#100006")
MARKERS: Final = "os^DvP"

_NAMES: Final = {INK: "ink", MUTED: "muted", GRID: "grid", PAPER: "paper"} | {
    colour: f"series-{number}" for number, colour in enumerate(SERIES, 1)
}
_STYLE: Final[dict[Any, Any]] = {
    "svg.fonttype": "none",
    "font.size": 11,
    "axes.titlesize": 11,
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "grid.color": GRID,
    "legend.frameon": False,
}
_WIDTH: Final = 340 / 72


def require_matplotlib() -> None:
    """Raises:
    EvaluationError: matplotlib or jinja2 is not installed; says how to get them.
    """
    from importlib.util import find_spec

    missing = [name for name in ("matplotlib", "jinja2") if find_spec(name) is None]
    if missing:
        raise EvaluationError(
            f"the report needs {' and '.join(missing)}", "Install them: pip install 'jarvis-embed[report]'"
        )


def waterfall_before_after(stages: Sequence[Json]) -> str:
    """The stages of ``suggest`` below those of the pipeline before, on one scale."""
    with _figure("waterfall", 2.9) as figure:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[len(BEFORE), len(stages)])
        middle = [(name, (low + high) / 2) for name, low, high in BEFORE]
        labels = [f"{low:.0f}–{high:.0f} ms" for _, low, high in BEFORE]
        _stairs(upper, middle, labels, SERIES[1])
        _stairs(lower, _lengths(stages), [f"{stage['ms']:.1f} ms" for stage in stages], SERIES[0])
        upper.set_title("before, as stated", loc="left", color=MUTED)
        lower.set_title("now, as measured", loc="left", color=MUTED)
        upper.set_xlim(0, 1.25 * sum(length for _, length in middle))
        lower.set_xlabel("ms after the message came")
    return figure.drawn()


def waterfall(name: str, stages: Sequence[Json], longest: float) -> str:
    """The stages of ``suggest`` with one model; ``longest`` ms is the end of the axis, equal for all models."""
    with _figure(f"stages-{name}", 0.6 + 0.25 * len(stages)) as figure:
        axes = figure.subplots()
        _stairs(axes, _lengths(stages), [f"{stage['ms']:.2f}" for stage in stages], SERIES[0])
        axes.set_xlim(0, 1.15 * longest)
        axes.set_xlabel("ms")
    return figure.drawn()


def pareto(models: Sequence[Json], rows: Sequence[Json], absent: Sequence[Json], name: str) -> str:
    """A figure of quality against the time of one message, the models that no other beats in both joined by a line."""
    with _figure(f"pareto-{name}", 2.9) as figure:
        axes = figure.subplots()
        times = [model["speed"]["p50_ms"]["median"] for model in models]
        values = [row["value"] for row in rows]
        best = sorted((t, v) for t, v in zip(times, values, strict=True) if not _beaten(t, v, times, values))
        axes.plot([t for t, _ in best], [v for _, v in best], color=GRID, zorder=1, drawstyle="steps-post")
        for place, (model, row) in enumerate(zip(models, rows, strict=True)):
            low, high = row["interval"]["low"], row["interval"]["high"]
            errors = [[row["value"] - low], [high - row["value"]]]
            colour = SERIES[place % len(SERIES)]
            axes.errorbar(
                times[place], row["value"], yerr=errors, fmt=MARKERS[place % 6], color=colour, capsize=3, zorder=2
            )
            axes.annotate(
                model["name"], (times[place], row["value"]), xytext=(6, 4), textcoords="offset points", color=INK
            )
        floor = min(row["interval"]["low"] for row in rows)
        span = max(row["interval"]["high"] for row in rows) - floor or 0.01
        shapes = sorted((one["shape_speed"]["p50_ms"]["median"], one["name"]) for one in absent if one["shape_speed"])
        for place, (time, shape) in enumerate(reversed(shapes)):
            height = floor - span * (0.25 + 0.28 * place)
            axes.plot(time, height, marker="|", color=MUTED, markersize=9)
            axes.annotate(
                f"{shape}: time only",
                (time, height),
                xytext=(5, -3),
                textcoords="offset points",
                color=MUTED,
                fontsize=10,
            )
        axes.margins(y=0.1)
        axes.set_xlim(0, 1.45 * max([*times, *(time for time, _ in shapes)]))
        axes.set_xlabel("one message, p50 ms (less is better)")
        axes.set_title(f"{called(name)} (more is better)", loc="left", color=MUTED)
        axes.grid(alpha=0.6, linewidth=0.6)
    return figure.drawn()


def class_bars(name: str, figures: Mapping[str, Sequence[Json]]) -> str:
    """F1 of each class with its interval, one bar a model."""
    many = len(figures)
    labels = [figure["label"] for figure in next(iter(figures.values()))]
    with _figure(f"classes-{name}", 0.9 + len(labels) * (0.14 + 0.15 * many)) as figure:
        axes = figure.subplots()
        thick = 0.8 / many
        for place, (model, of_model) in enumerate(figures.items()):
            at = np.arange(len(labels)) + (place - (many - 1) / 2) * thick
            values = np.array([one["value"] for one in of_model])
            low, high = (np.array([one["interval"][end] for one in of_model]) for end in ("low", "high"))
            errors = [np.maximum(values - low, 0), np.maximum(high - values, 0)]
            axes.barh(at, values, thick * 0.9, color=SERIES[place % len(SERIES)], label=model)
            axes.errorbar(values, at, xerr=errors, fmt="none", ecolor=INK, elinewidth=0.8)
            for height, value in zip(at, values.tolist(), strict=True):
                axes.text(1.03, height, f"{value:.2f}", va="center", fontsize=10, color=MUTED)
        axes.set_yticks(range(len(labels)), [_said(label) for label in labels])
        axes.set_ylim(len(labels) - 0.5, -0.5)
        axes.set_xlim(0, 1.16)
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1])
        axes.legend(loc="lower center", bbox_to_anchor=(0.4, 1), ncols=2, fontsize=10)
    return figure.drawn()


def confusion(name: str, labels: Sequence[str], counts: Sequence[Sequence[int]]) -> str:
    """Gold labels down, given ones across, abstained last; shade: share of the row."""
    rows = np.asarray(counts, np.float64)
    down_many, across_many = rows.shape
    given = [*labels, "no label"][:across_many]
    shares = rows / np.maximum(rows.sum(1, keepdims=True), 1)
    with _figure(f"confusion-{name}", 1.3 + 0.29 * down_many) as figure:
        axes = figure.subplots()
        for down, across in np.ndindex(down_many, across_many):
            if counts[down][across]:
                axes.add_patch(_square(across, down, SERIES[0], 0.06 + 0.5 * float(shares[down, across])))
                axes.text(across, down, str(counts[down][across]), ha="center", va="center", fontsize=10)
        axes.set_xlim(-0.5, across_many - 0.5)
        axes.set_ylim(down_many - 0.5, -0.5)
        axes.set_xticks(range(across_many), [_said(label) for label in given], rotation=90, fontsize=10)
        axes.set_yticks(range(down_many), [_said(label) for label in labels], fontsize=10)
        axes.xaxis.tick_top()
        axes.tick_params(length=0)
        axes.set_ylabel("gold")
        axes.set_xlabel("given")
        axes.spines[:].set_visible(False)
    return figure.drawn()


def calibration(name: str, bins: Sequence[Json]) -> str:
    """Predicted quality against the mean place that people gave, part by part."""
    with _figure(f"calibration-{name}", 3.0) as figure:
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle="--")
        across, up = [one["predicted"] for one in bins], [one["rated"] for one in bins]
        axes.plot(across, up, color=SERIES[0], marker="o", linewidth=1.5)
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
        axes.set_xlabel("predicted quality")
        axes.set_ylabel("place among rated replies")
    return figure.drawn()


def thread_histogram(name: str, histogram: Json, before: Json | None = None) -> str:
    """How cosines lie: of segments of one thread, and of different ones; each as a share of its own.

    Args:
        before: the same of the model that this one was trained from, which is drawn above it on one scale.
    """
    with _figure(f"threads-{name}", 2.0 if before is None else 3.4) as figure:
        if before is None:
            upper = lower = figure.subplots()
        else:
            upper, lower = figure.subplots(2, 1, sharex=True)
            _heaps(upper, before)
            upper.set_title("before, the parent", loc="left", color=MUTED)
            lower.set_title("after training", loc="left", color=MUTED)
        _heaps(lower, histogram)
        lower.set_xlabel("cosine of two segments")
        upper.legend(loc="lower center", bbox_to_anchor=(0.5, 1 if before is None else 1.2), ncols=2, fontsize=10)
    return figure.drawn()


def thread_map(name: str, threads: Sequence[Sequence[Sequence[float]]], around: Sequence[Sequence[float]]) -> str:
    """Segments in the plane: those of some threads, each thread a colour and a line, among others."""
    with _figure(f"thread-map-{name}", 3.2) as figure:
        axes = figure.subplots()
        axes.scatter(*_columns(around), s=8, color=GRID, linewidths=0)
        for place, spots in enumerate(threads):
            colour, marker = SERIES[place % len(SERIES)], MARKERS[place % len(MARKERS)]
            axes.plot(*_columns(spots), color=colour, marker=marker, markersize=5, linewidth=1, alpha=0.85)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_aspect("equal", adjustable="datalim")
        axes.spines[:].set_visible(False)
    return figure.drawn()


def trigger_map(name: str, points: Sequence[Json], titles: Mapping[int, str]) -> str:
    """Triggers in the plane, coloured by label; ``titles`` (pair → text) appear where the pointer rests.

    A label has the same colour and mark in the map of every model, whichever labels occur.
    """
    found = {point["label"] or "" for point in points}
    kinds = [(place, kind) for place, kind in enumerate((*LABELS["trigger"], "")) if kind in found]
    with _figure(f"map-{name}", 3.2) as figure:
        axes = figure.subplots()
        for place, kind in kinds:
            here = [point for point in points if (point["label"] or "") == kind]
            drawn = axes.scatter(
                [point["x"] for point in here],
                [point["y"] for point in here],
                s=16,
                marker=MARKERS[place % 6],
                color=SERIES[place % len(SERIES)],
                alpha=0.7,
                linewidths=0,
                label=_said(kind) or "no label",
            )
            drawn.set_gid(f"points-{place}")
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_aspect("equal", adjustable="datalim")
        axes.spines[:].set_visible(False)
        if found != {""}:
            axes.legend(
                loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3, fontsize=10, handletextpad=0, markerscale=1.5
            )
    svg = figure.drawn()
    for place, kind in kinds:
        said = [titles.get(point["pair"], "") for point in points if (point["label"] or "") == kind]
        svg = _titled(svg, f"points-{place}", said) if any(said) else svg
    return svg


class _Drawing:
    """A matplotlib figure while it is drawn; ``drawn`` gives the SVG afterwards."""

    def __init__(self, name: str, figure: Figure) -> None:
        self.subplots: Callable[..., Any] = figure.subplots
        self._figure, self._name, self._svg = figure, name, ""

    def finish(self) -> None:
        file = io.StringIO()
        self._figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
        self._svg = _embedded(file.getvalue(), self._name)

    def drawn(self) -> str:
        return self._svg


@contextmanager
def _figure(name: str, height: float) -> Iterator[_Drawing]:
    """A picture of the one width and ``height`` inches (72 px each)."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({**_STYLE, "svg.hashsalt": name}):
        drawing = _Drawing(name, Figure(figsize=(_WIDTH, height), layout="constrained"))
        yield drawing
        drawing.finish()


def _embedded(svg: str, name: str) -> str:
    """Ready to stand in a page beside others: no prologue, ids of its own, the page's colours, hidden from readers.

    What a picture shows is said in words by the page.
    """
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    mark = re.sub(r"[^a-z0-9-]", "-", name.lower())
    svg = re.sub(r'\bid="', f'id="{mark}-', svg)
    svg = re.sub(r'(href="#|url\(#)', rf"\g<1>{mark}-", svg)
    svg = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", svg)
    svg = re.sub(r'<svg [^>]*?(viewBox="[^"]*")[^>]*>', r'<svg \1 xmlns:xlink="http://www.w3.org/1999/xlink">', svg)
    for stand_in, colour in _NAMES.items():
        svg = svg.replace(stand_in, f"var(--{colour})")
    return svg


def _titled(svg: str, group: str, titles: Sequence[str]) -> str:
    """Put a title into each ``<use>`` of a group, in order."""
    start = svg.index(f'{group}"')
    left = iter(titles)

    def put(found: re.Match[str]) -> str:
        title = next(left, "")
        return f"{found[1]}><title>{escape(title)}</title></use>" if title else found[0]

    return svg[:start] + re.sub(r"(<use [^>]*?)/>", put, svg[start:], count=len(titles))


def _stairs(axes: Axes, lengths: Sequence[tuple[str, float]], labels: Sequence[str], colour: str) -> None:
    """Bars one below the other, each beginning where the one before it ended."""
    start = 0.0
    for place, ((_, length), label) in enumerate(zip(lengths, labels, strict=True)):
        axes.barh(place, length, left=start, height=0.7, color=colour)
        axes.annotate(label, (start + length, place), xytext=(4, 0), textcoords="offset points", va="center")
        start += length
    axes.set_yticks(range(len(lengths)), [name for name, _ in lengths])
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)


def _lengths(stages: Sequence[Json]) -> list[tuple[str, float]]:
    return [(stage["stage"], stage["ms"]) for stage in stages]


def _heaps(axes: Axes, histogram: Json) -> None:
    """Cosines of two heaps, one over the other, on axes without heights."""
    edges = np.linspace(histogram["low"], histogram["high"], len(histogram["same"]) + 1)
    for counts, colour, label in (
        (histogram["other"], SERIES[1], "different threads"),
        (histogram["same"], SERIES[0], "the same thread"),
    ):
        shares = np.asarray(counts, np.float64) / max(sum(counts), 1)
        axes.stairs(shares, edges, fill=True, color=colour, alpha=0.35)
        axes.stairs(shares, edges, color=colour, linewidth=1.5, label=label)
    axes.set_yticks([])
    axes.spines.left.set_visible(False)


def _columns(spots: Sequence[Sequence[float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in spots], [y for _, y in spots]


def _square(across: int, down: int, colour: str, alpha: float) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((across - 0.5, down - 0.5), 1, 1, facecolor=colour, alpha=alpha, linewidth=0)


def _beaten(time: float, value: float, times: Sequence[float], values: Sequence[float]) -> bool:
    return any(t <= time and v >= value and (t, v) != (time, value) for t, v in zip(times, values, strict=True))


def _said(label: str) -> str:
    return label.replace("_", " ").lower()
