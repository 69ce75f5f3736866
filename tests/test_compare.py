"""Models side by side: a whole comparison of two tiny models, what it recommends, and what `use` says of it."""

from __future__ import annotations

import copy
import functools
import json
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import jarvis_embed as je
import tiny
from jarvis_embed.cli import app
from jarvis_embed.cli.compare import print_comparison
from jarvis_embed.config import load_settings, save_settings
from jarvis_embed.errors import EvaluationError, SourceError, UnknownModel
from jarvis_embed.evaluation import classifiers, compare
from jarvis_embed.evaluation import exam as exam_module
from jarvis_embed.evaluation.classifiers import load_gold
from jarvis_embed.evaluation.compare import run_comparison
from jarvis_embed.evaluation.comparison import (
    SAME_TIME,
    TOLERANCE,
    comparison_path,
    deciding_keys,
    gain_or_loss,
    points,
    recommend,
    report_path,
    row_of,
    store_comparison,
    stored_comparison,
)
from jarvis_embed.evaluation.histories import own_history
from jarvis_embed.evaluation.trigger_map import map_triggers
from jarvis_embed.forgetting import Wish
from jarvis_embed.models.encoder import Encoder
from jarvis_embed.models.lineage import Lineage, write_lineage
from jarvis_embed.models.registry import REGISTRY
from jarvis_embed.models.store import add_model
from jarvis_embed.purge import forget
from jarvis_embed.spaces.heads import Heads
from jarvis_embed.training.heads import SETTINGS, train_heads
from test_exam import ingest, made_up_history, write_data

Json = dict[str, Any]


HEADS: dict[str, Heads] = {}
"""Fingerprint → heads, trained once for all tests."""


@functools.cache
def all_gold() -> classifiers.Gold:
    return load_gold()


def quick_heads(encoder: Encoder, gold: classifiers.Gold, _seed: int, _home: Path, _progress: Any = None) -> Heads:
    """Heads of a third of the gold labels, with one setting instead of a choice among many."""
    if encoder.fingerprint not in HEADS:
        HEADS[encoder.fingerprint] = train_heads(encoder, gold.learned[::3], settings=SETTINGS[:1])
    return HEADS[encoder.fingerprint]


def made_quick(patch: pytest.MonkeyPatch, judge: Path, gold: Callable[[], classifiers.Gold] = all_gold) -> None:
    """A tiny judge instead of minilm-l6, and heads that are trained in a second."""
    patch.setattr(exam_module, "REFERENCE", str(judge))
    patch.setattr(classifiers, "heads_for", quick_heads)
    for room in (classifiers, exam_module):
        patch.setattr(room, "load_gold", gold)


@pytest.fixture(scope="session")
def compared_once(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> tuple[Path, Json]:
    """A home with a history and two tiny models, judged by a tiny judge instead of minilm-l6; and their comparison."""
    folder = tmp_path_factory.mktemp("compared")
    home = folder / "home"
    home.mkdir()
    save_settings(home, load_settings(home).model_copy(update={"precision": "fp32", "model": "tiny"}))
    add_model("tiny", tiny_folder, home)
    add_model("other", tiny.write_model(folder / "other", seed=1), home)
    ingest(made_up_history(260), folder / "history.jsonl", home)
    with pytest.MonkeyPatch.context() as patch:
        made_quick(patch, tiny_folder)
        names, sides, data = ["tiny", "other", "gte-tiny"], own_history(home), write_data(folder / "data")
        found = run_comparison(names, sides, home, source="own", data=data, shapes=False)
    return folder, json.loads(json.dumps(found.as_dict()))


@pytest.fixture
def two_models(
    home: Path, compared_once: tuple[Path, Json], tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A copy of that home, nothing stored about the comparison."""
    shutil.copytree(compared_once[0] / "home", home)
    made_quick(monkeypatch, tiny_folder)
    return home


@pytest.fixture
def compared(compared_once: tuple[Path, Json]) -> Json:
    return copy.deepcopy(compared_once[1])


def test_every_model_is_measured_on_the_same(compared: Json) -> None:
    first, second = compared["models"]
    assert [first["name"], second["name"], compared["baseline"]] == ["tiny", "other", "tiny"]
    assert [(row["name"], row["on"], row["n"]) for row in first["metrics"]] == [
        (row["name"], row["on"], row["n"]) for row in second["metrics"]
    ]
    for model in compared["models"]:
        assert 0 < model["speed"]["p50_ms"]["median"] <= model["speed"]["p95_ms"]["median"]
        assert model["speed"]["messages_per_s"]["low"] > 0
        assert model["space"]["index_bytes"] > 0
        assert model["space"]["recall_at_10"] == 1
        assert [stage["stage"] for stage in model["stages"]][:2] == ["embed", "search"]
        assert len(model["map"]["points"]) == min(600, model["space"]["triggers"])
        assert 0 < model["map"]["explained"] <= 1


def test_a_difference_is_that_of_the_two_values_and_turns_round(compared: Json) -> None:
    first, second = compared["models"]
    for key, difference in second["against"]["tiny"].items():
        theirs, ours = row_of(first, key)["value"], row_of(second, key)["value"]
        assert difference["value"] == pytest.approx(ours - theirs)
        back = first["against"]["other"][key]
        assert back["value"] == pytest.approx(-difference["value"])
        assert back["interval"]["low"] == pytest.approx(-difference["interval"]["high"])


def test_the_heaps_have_the_means_that_the_table_has(compared: Json) -> None:
    for model in compared["models"]:
        assert model["threads"]
        for heap in model["threads"]:
            width = (heap["high"] - heap["low"]) / len(heap["same"])
            middles = heap["low"] + width * (np.arange(len(heap["same"])) + 0.5)
            for part in ("same", "other"):
                mean = np.average(middles, weights=heap[part])
                assert mean == pytest.approx(
                    row_of(model, f"thread_similarity_{part} · {heap['on']}")["value"], abs=width
                )


def test_a_model_without_weights_has_no_figures(compared: Json) -> None:
    (absent,) = compared["absent"]
    assert absent == {
        "name": "gte-tiny",
        "layers": REGISTRY["gte-tiny"].layers,
        "next_step": "jarvis-embed models pull gte-tiny",
        "shape_speed": None,
    }


def test_classifiers_are_compared_label_by_label(compared: Json) -> None:
    pytest.importorskip("chitchat_dataset")
    for model in compared["models"]:
        for name, labels in (("trigger_f1", 5), ("response_f1", 10)):
            row = next(row for row in model["metrics"] if row["name"] == name)
            figures = model["labels"][name]
            assert len(figures) == len(model["confusions"][name]["labels"]) == labels
            assert np.mean([one["value"] for one in figures]) == pytest.approx(row["value"])
            assert all(one["interval"]["low"] <= one["value"] <= one["interval"]["high"] for one in figures)
            assert sum(map(sum, model["confusions"][name]["counts"])) == row["n"]
        assert {point["label"] for point in model["map"]["points"]} <= set(model["confusions"]["trigger_f1"]["labels"])
    assert deciding_keys(compared["models"])[0].startswith("trigger_f1")


def test_without_gold_labels_the_rest_is_compared(
    two_models: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing() -> classifiers.Gold:
        raise SourceError("the chitchat corpus is not installed", "Install it: pip install chitchat-dataset")

    made_quick(monkeypatch, tiny_folder, nothing)
    (model,) = run_comparison(["tiny"], own_history(two_models), two_models, source="own").models
    row = next(row for row in model.metrics if row.name == "trigger_f1")
    assert row.value is None
    assert "pip install chitchat-dataset" in row.needs
    assert (model.labels, model.confusions) == ({}, {})


def test_no_message_and_no_name_is_in_it(compared: Json, two_models: Path) -> None:
    stated = json.dumps(compared)
    assert "friend0" not in stated
    assert all(pair.response not in stated for pair in list(je.Library.open(two_models).pairs())[:50])


def test_the_same_seed_gives_the_same_figures(
    compared: Json, compared_once: tuple[Path, Json], two_models: Path
) -> None:
    sides, data = own_history(two_models), compared_once[0] / "data"
    again = run_comparison(["tiny"], sides, two_models, source="own", data=data, shapes=False).as_dict()
    (model,) = json.loads(json.dumps(again))["models"]
    first = compared["models"][0]
    assert model["metrics"] == first["metrics"]
    assert model["map"] == first["map"]
    assert model["space"]["build_s"] is None  # the space was there and up to date
    assert "the only model that is present" in again["recommendation"]["reason"]


def test_the_map_names_the_trigger_that_lies_there(two_models: Path) -> None:
    with je.Space.open("tiny", home=two_models) as space:
        found = map_triggers(space, seed=1)
        assert found is not None
        chosen = found.points[:20]
        triggers = {pair.id: pair.trigger for pair in space.library.pairs([dot.pair for dot in chosen])}
        vectors = space.encoder.embed([triggers[dot.pair] for dot in chosen])
        cosines = vectors @ vectors.T
        plane = np.array([[dot.x, dot.y] for dot in chosen])
        distances = np.linalg.norm(plane[:, None] - plane[None], axis=-1)
        # A projection never lengthens a distance.
        assert np.all(distances <= np.sqrt(np.maximum(2 - 2 * cosines, 0)) + 1e-3)


def test_a_trained_model_brings_its_parent(two_models: Path, tmp_path: Path) -> None:
    folder = tiny.write_model(tmp_path / "child", seed=7)
    write_lineage(folder, Lineage("tiny", "0" * 32, "threads", {}, "", "", "2026-01-01"))
    add_model("child", folder, two_models)
    assert compare._sorted_out(["child"], two_models) == (["child", "tiny"], [])
    write_lineage(folder, Lineage("gone", "0" * 32, "threads", {}, "", "", "2026-01-01"))
    assert compare._sorted_out(["child"], two_models) == (["child"], [])


def test_nothing_present_is_an_error_with_the_next_step(home: Path) -> None:
    with pytest.raises(EvaluationError, match="models pull gte-tiny"):
        run_comparison(["gte-tiny"], None, home, source="own")
    with pytest.raises(UnknownModel, match="Did you mean gte-tiny"):
        run_comparison(["gte-tyni"], None, home, source="own")


def made(name: str, values: dict[str, float], ms: float) -> Json:
    """A measured model, as far as the recommendation reads it."""
    rows = [{"name": metric, "on": "own", "variant": "", "value": value} for metric, value in values.items()]
    return {
        "name": name, "metrics": rows, "fingerprint": f"of {name}", "speed": {"p50_ms": {"median": ms}}, "against": {},
    }  # fmt: skip


def compare_made(*models: Json, half: float) -> Json:
    """A comparison of made-up models whose differences all have an interval of ± ``half``."""
    for model in models:
        for other in models:
            if other is not model:
                model["against"][other["name"]] = {
                    f"{row['name']} · own": {
                        "value": row["value"] - theirs["value"],
                        "interval": {
                            "low": row["value"] - theirs["value"] - half,
                            "high": row["value"] - theirs["value"] + half,
                        },
                    }
                    for row, theirs in zip(model["metrics"], other["metrics"], strict=True)
                }
    return {"schema": 1, "date": "2026-01-02T03:04:05", "models": models, "baseline": models[0]["name"]}


F1 = ("trigger_f1", "response_f1")


def test_the_faster_model_is_recommended_if_it_surely_loses_little() -> None:
    found = compare_made(
        made("bge-small", dict.fromkeys(F1, 0.900), 2.9), made("minilm-l6", dict.fromkeys(F1, 0.896), 1.4), half=0.011
    )
    assert recommend(found) == {
        "model": "minilm-l6",
        "reason": "minilm-l6: 0.4 ± 1.1 points below bge-small in trigger F1 (may be chance) and 0.4 ± 1.1 points "
        "below in response F1 (may be chance), at half the latency (1.4 against 2.9 ms). "
        "What bge-small would gain is at most 2 points, and it takes 2.1 × as long",
    }


def test_a_much_slower_model_is_not_recommended_for_what_may_be_chance() -> None:
    found = compare_made(
        made("bge-small", dict.fromkeys(F1, 0.762), 1.58), made("minilm-l6", dict.fromkeys(F1, 0.757), 0.56), half=0.025
    )
    assert recommend(found)["model"] == "minilm-l6"
    assert recommend(found)["reason"].endswith(
        "at 35 % of the latency (0.56 against 1.6 ms). "
        "What bge-small would gain may be chance, and it takes 2.8 × as long"
    )


def test_the_better_model_is_recommended_if_the_faster_may_lose_much() -> None:
    found = compare_made(
        made("bge-small", dict.fromkeys(F1, 0.90), 3.0), made("bge-micro", dict.fromkeys(F1, 0.86), 1.0), half=0.011
    )
    assert recommend(found) == {
        "model": "bge-small",
        "reason": "bge-small: 4.0 ± 1.1 points above bge-micro in trigger F1 and 4.0 ± 1.1 points above in response "
        "F1, at 3.0 × the latency (3.0 against 1.0 ms). Those that are faster give up too much: bge-micro is "
        "4.0 ± 1.1 points below in trigger F1",
    }


def test_of_models_that_take_the_same_time_the_best_is_recommended() -> None:
    found = compare_made(
        made("a", dict.fromkeys(F1, 0.896), 1.00), made("b", dict.fromkeys(F1, 0.900), 1.03), half=0.011
    )
    assert recommend(found)["model"] == "b"
    assert recommend(found)["reason"].endswith("at the same latency (1.0 against 1.0 ms). None is faster")


def test_without_classifiers_the_replies_decide() -> None:
    models = [made(name, {"reply_similarity": 0.4, "response_accuracy": 0.3}, 1.0) for name in ("a", "b")]
    assert deciding_keys(models) == ["reply_similarity · own", "response_accuracy · own"]


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0.1, 9)), min_size=2, max_size=4), st.floats(0.001, 0.05))
def test_the_recommended_model_is_never_surely_worse_than_allowed(
    figures: list[tuple[float, float]], half: float
) -> None:
    models = [made(f"m{place}", dict.fromkeys(F1, value), ms) for place, (value, ms) in enumerate(figures)]
    found = compare_made(*models, half=half)
    chosen = next(model for model in models if model["name"] == recommend(found)["model"])
    best = max(value for value, _ in figures)
    assert chosen["metrics"][0]["value"] >= best - TOLERANCE
    faster = [m for m in models if SAME_TIME * m["speed"]["p50_ms"]["median"] < chosen["speed"]["p50_ms"]["median"]]
    assert all(m["metrics"][0]["value"] - half < best - TOLERANCE + 1e-9 for m in faster)


def test_points_say_half_the_width() -> None:
    difference = {"value": -0.004, "interval": {"low": -0.015, "high": 0.007}}
    assert points(difference, signed=True) == "−0.4 ± 1.1 points"
    assert points(difference, signed=False) == "0.4 ± 1.1 points"


def test_a_switch_says_what_it_gains_or_loses() -> None:
    found = compare_made(
        made("bge-small", dict.fromkeys(F1, 0.900), 2.9), made("minilm-l6", dict.fromkeys(F1, 0.896), 1.4), half=0.011
    )
    line = gain_or_loss(found, "bge-small", "minilm-l6", {})
    assert line == (
        "Against bge-small (compared on 2026-01-02): trigger F1 −0.4 ± 1.1 points, response F1 −0.4 ± 1.1 points, "
        "one message 1.4 instead of 2.9 ms"
    )
    assert "made without gte-tiny" in gain_or_loss(found, "bge-small", "gte-tiny", {})
    assert "not what it was" in gain_or_loss(found, "bge-small", "minilm-l6", {"minilm-l6": "of another"})
    assert gain_or_loss(None, "a", "b", {}) == "What this gains or loses is not measured yet: jarvis-embed compare a b"


def test_the_commands_in_a_row(two_models: Path) -> None:
    before = CliRunner().invoke(app, ["compare", "tiny", "other", "gte-tiny", "--no-shapes"], catch_exceptions=False)
    assert before.exit_code == 0
    for word in ("reply similarity", "points", "one message, p50 ms", "index, MB"):
        assert word in before.output
    assert "gte-tiny: not present: models pull gte-tiny" in before.output
    stated = stored_comparison(two_models)
    assert stated is not None
    assert stated["recommendation"]["reason"] in before.output.replace("\n", " ")
    assert stat.S_IMODE(comparison_path(two_models).stat().st_mode) == 0o600
    done = CliRunner().invoke(app, ["use", "other"], catch_exceptions=False)
    assert "Against tiny (compared on" in done.output
    again = json.loads(CliRunner().invoke(app, ["use", "tiny", "--json"]).output)
    assert again["after"] == "tiny"
    assert again["comparison"].startswith("Against other")


def test_a_switch_works_without_a_comparison(two_models: Path) -> None:
    done = CliRunner().invoke(app, ["use", "other"], catch_exceptions=False)
    assert "not measured yet: jarvis-embed compare tiny other" in done.output


def test_a_space_built_anew_makes_the_comparison_old(two_models: Path, compared: Json) -> None:
    compared["models"][1]["fingerprint"] = "0" * 32
    store_comparison(compared, two_models)
    done = CliRunner().invoke(app, ["use", "other"], catch_exceptions=False)
    assert "other is not what it was in the last comparison" in done.output


def test_a_damaged_comparison_counts_as_none(home: Path) -> None:
    path = comparison_path(home)
    path.parent.mkdir(parents=True)
    for content in ("{", "[]", '{"schema": 99}'):
        path.write_text(content)
        assert stored_comparison(home) is None


def test_shapes_are_timed_and_leave_nothing(two_models: Path, tiny_folder: Path, monkeypatch: Any) -> None:
    from dataclasses import replace

    from jarvis_embed.evaluation import model_times

    small = replace(REGISTRY["gte-tiny"], layers=1, hidden=32, heads=4, intermediate=64, max_length=32)
    monkeypatch.setattr(model_times, "REGISTRY", {**REGISTRY, "gte-tiny": small, "tiny": small})
    found = run_comparison(["tiny", "gte-tiny"], own_history(two_models), two_models, source="own")
    (absent,) = found.absent
    assert absent.shape_speed is not None
    assert absent.shape_speed.p50_ms.median > 0
    assert not (two_models / "embeddings" / "gte-tiny").exists()


def test_a_purge_forgets_the_comparison_and_its_page(two_models: Path, compared: Json) -> None:
    store_comparison(compared, two_models)
    report_path(two_models).write_text("a page that may show messages")
    forget(two_models, Wish(before_ms=1_000_000))
    assert not comparison_path(two_models).exists()
    assert not report_path(two_models).exists()


def test_four_models_fit_into_a_terminal(compared: Json, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither the names of the rows nor a figure is cut off."""
    model = compared["models"][0]
    names = ["minilm-l6", "minilm-l6-reference", "bge-small", "bge-small-reference"]
    print_comparison({**compared, "models": [{**model, "name": name} for name in names]})
    shown = capsys.readouterr().out
    accuracy = next(row["value"] for row in model["metrics"] if row["name"] == "response_accuracy")
    line = next(line for line in shown.splitlines() if line.startswith("response accuracy"))
    assert line.split()[2:] == [f"{accuracy:.3f}"] * 4
    assert "…" not in shown
