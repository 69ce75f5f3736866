"""A stored comparison of models: what to recommend, what a switch gains or loses. Pure functions of its JSON.

Points are hundredths: of an F1, of a cosine, of a share of right answers. ``± w`` is half the width of the 95 %
interval of a paired difference.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from ..errors import EvaluationError
from ..home import embeddings_folder, write_json

SCHEMA: Final = 1
TOLERANCE: Final = 0.02
"""A faster model is recommended if it is sure (97.5 %) to lose no more than this on every deciding figure."""

LIKELY: Final = 0.01
"""It is, too, if it loses no more than this as measured, and the interval does not exclude that it loses nothing."""

SAME_TIME: Final = 1.05
"""Models whose times differ by less than this factor count as equally fast."""

DECIDING: Final = (("trigger_f1", "response_f1"), ("reply_similarity", "response_accuracy"))
"""The figures that decide: the first group of which every model has all. What is worth most to an assistant first."""

_CALLED: Final = {
    "trigger_f1": "trigger F1",
    "response_f1": "response F1",
    "reply_similarity": "reply similarity",
    "reply_similarity_share": "reply similarity, share of the way",
    "response_accuracy": "response accuracy",
    "general_similarity": "general similarity",
    "thread_retrieval": "other half of a thread",
}

Json = Mapping[str, Any]


def comparison_path(home: Path) -> Path:
    """Where the last comparison lies."""
    return embeddings_folder(home) / "comparison.json"


def report_path(home: Path) -> Path:
    """Where its page lies unless another place is named."""
    return embeddings_folder(home) / "report.html"


def store_comparison(stated: Json, home: Path) -> Path:
    """Write the comparison, instead of the one before it."""
    write_json(comparison_path(home), stated)
    return comparison_path(home)


def stored_comparison(home: Path) -> dict[str, Any] | None:
    """The last comparison; None if there is none that this version can read."""
    try:
        stated: dict[str, Any] = json.loads(comparison_path(home).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return stated if isinstance(stated, dict) and stated.get("schema") == SCHEMA else None


def needed_comparison(home: Path) -> dict[str, Any]:
    """The last comparison.

    Raises:
        EvaluationError: there is none.
    """
    stated = stored_comparison(home)
    if stated is None:
        raise EvaluationError("no models have been compared yet", "Compare them first: jarvis-embed compare")
    return stated


def model_of(comparison: Json, name: str) -> dict[str, Any] | None:
    """The measured model of that name."""
    return next((model for model in comparison["models"] if model["name"] == name), None)


def row_of(model: Json, key: str) -> dict[str, Any]:
    """The metric of that key; every model of one comparison has the same keys."""
    found: dict[str, Any] = next(row for row in model["metrics"] if key_of(row) == key)
    return found


def key_of(row: Json) -> str:
    """As ``exam.Metric.key``."""
    return " · ".join(part for part in (row["name"], row["on"], row["variant"]) if part)


def called(name: str) -> str:
    """A metric's name as people say it."""
    return _CALLED.get(name, name.replace("_", " "))


def deciding_keys(models: Sequence[Json]) -> list[str]:
    """Keys of the figures that decide; of a figure measured in several ways, the way on the history, else the first."""
    common = [
        key_of(row)
        for row in models[0]["metrics"]
        if all(row_of(model, key_of(row))["value"] is not None for model in models)
    ]
    for names in DECIDING:
        chosen = [_preferred([key for key in common if key.split(" · ")[0] == name]) for name in names]
        if all(chosen):
            return chosen
    return []


def _preferred(keys: Sequence[str]) -> str:
    return next((key for key in keys if "dailydialog" not in key), keys[0] if keys else "")


def recommend(comparison: Json) -> dict[str, str]:
    """The model to use, and why, in two sentences: ``{"model", "reason"}``.

    The fastest model that gives up little against the best one on each deciding figure: it is sure to lose at most
    ``TOLERANCE``, or is likely to lose at most ``LIKELY`` where a loss may be chance. So a slower model is recommended
    only if there is something to show for its time. Of models that take the same time, the best.
    """
    models = comparison["models"]
    keys = deciding_keys(models)
    if len(models) == 1:
        only = models[0]["name"]
        return {"model": only, "reason": f"{only}: the only model that is present, so there is nothing to compare"}
    if not keys:
        fastest = min(models, key=_p50)["name"]
        return {"model": fastest, "reason": f"{fastest}: the fastest; nothing that tells quality could be measured"}
    best = max(models, key=lambda model: _sum(model, keys))
    good = [model for model in models if model is best or _gives_up_little(model, best, keys)]
    alike = [model for model in good if _p50(model) <= SAME_TIME * min(map(_p50, good))]
    chosen = max(alike, key=lambda model: (_sum(model, keys), -_p50(model)))
    other = model_of(comparison, comparison["baseline"]) or models[0]
    if other is chosen:  # the baseline against its best rival
        other = max((model for model in models if model is not chosen), key=lambda model: _sum(model, keys))
    reason = f"{chosen['name']}: {_gaps(chosen, other, keys)}, {_latency_phrase(chosen, other)}"
    return {"model": chosen["name"], "reason": f"{reason}. {_why(chosen, best, models, keys)}"}


def gain_or_loss(comparison: Json | None, before: str, after: str, fingerprints: Mapping[str, str]) -> str:
    """What a switch gains or loses, in one line; or the command that finds it out.

    Args:
        fingerprints: of the spaces of both as they are now; figures of other weights or another precision say nothing.
    """
    again = f"jarvis-embed compare {before} {after}"
    if comparison is None:
        return f"What this gains or loses is not measured yet: {again}"
    old, new = model_of(comparison, before), model_of(comparison, after)
    if old is None or new is None:
        missing = before if old is None else after
        return f"The last comparison was made without {missing}: {again}"
    for model in (old, new):
        if fingerprints.get(model["name"], model["fingerprint"]) != model["fingerprint"]:
            return f"{model['name']} is not what it was in the last comparison: {again}"
    keys = deciding_keys([old, new])
    shown = [f"{called(key.split(' · ')[0])} {points(new['against'][before][key], signed=True)}" for key in keys]
    times = f"one message {_said(_p50(new))} instead of {_said(_p50(old))} ms"
    return f"Against {before} (compared on {comparison['date'][:10]}): {', '.join([*shown, times])}"


def points(difference: Json, *, signed: bool) -> str:
    """``0.4 ± 1.1 points``; signed: ``−0.4 ± 1.1 points``."""
    return f"{in_points(difference, signed=signed)} points"


def in_points(difference: Json, *, signed: bool) -> str:
    """The same without the word, for where it is said already: ``0.4 ± 1.1``."""
    value, half = 100 * difference["value"], 50 * (difference["interval"]["high"] - difference["interval"]["low"])
    sign = ("−" if value < 0 else "+") if signed else ""
    return f"{sign}{abs(value):.1f} ± {half:.1f}"


def _gives_up_little(model: Json, best: Json, keys: Sequence[str]) -> bool:
    gaps = [model["against"][best["name"]][key] for key in keys]
    return all(
        gap["interval"]["low"] >= -TOLERANCE or (gap["value"] >= -LIKELY and gap["interval"]["high"] >= 0)
        for gap in gaps
    )


def _sum(model: Json, keys: Sequence[str]) -> float:
    return float(sum(row_of(model, key)["value"] for key in keys))


def _p50(model: Json) -> float:
    return float(model["speed"]["p50_ms"]["median"])


def _gaps(chosen: Json, other: Json, keys: Sequence[str]) -> str:
    return " and ".join(_gap(chosen, other, key, f" {other['name']}" * (place == 0)) for place, key in enumerate(keys))


def _gap(model: Json, other: Json, key: str, against: str = "") -> str:
    """``0.4 ± 1.1 points below bge-small in trigger F1 (may be chance)``."""
    difference = model["against"][other["name"]][key]
    side = "below" if difference["value"] < 0 else "above"
    sure = "" if _is_sure(difference) else " (may be chance)"
    return f"{points(difference, signed=False)} {side}{against} in {called(key.split(' · ')[0])}{sure}"


def _is_sure(difference: Json) -> bool:
    """Whether the interval leaves out zero."""
    low, high = difference["interval"]["low"], difference["interval"]["high"]
    return bool(low > 0 or high < 0)


def _why(chosen: Json, best: Json, models: Sequence[Json], keys: Sequence[str]) -> str:
    """The sentence that says why neither a better model nor a faster one is recommended."""
    if chosen is not best:
        gaps = [chosen["against"][best["name"]][key] for key in keys]
        small = f"is at most {100 * TOLERANCE:.0f} points" * any(gap["interval"]["low"] >= -TOLERANCE for gap in gaps)
        chance = "may be chance" * any(gap["interval"]["low"] < -TOLERANCE for gap in gaps)
        gained = " or ".join(filter(None, (small, chance)))
        return f"What {best['name']} would gain {gained}, and it takes {_p50(best) / _p50(chosen):.1f} × as long"
    faster = [model for model in models if SAME_TIME * _p50(model) < _p50(chosen)]
    if not faster:
        return "None is faster"
    rival = max(faster, key=lambda model: _sum(model, keys))
    worst = min(keys, key=lambda key: rival["against"][chosen["name"]][key]["value"])
    loss = _gap(rival, chosen, worst)
    return f"Those that are faster give up too much: {rival['name']} is {loss}"


def _latency_phrase(chosen: Json, other: Json) -> str:
    ours, theirs = _p50(chosen), _p50(other)
    ratio = ours / theirs
    if 0.95 <= ratio <= 1.05:
        words = "at the same latency"
    elif 0.45 <= ratio <= 0.55:
        words = "at half the latency"
    else:
        words = f"at {100 * ratio:.0f} % of the latency" if ratio < 1 else f"at {ratio:.1f} × the latency"
    return f"{words} ({_said(ours)} against {_said(theirs)} ms)"


def _said(ms: float) -> str:
    return f"{ms:.1f}" if ms >= 1 else f"{ms:.2f}"
