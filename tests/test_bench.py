"""The benchmark: its statistics, its turns, its report and its memory. Nothing here asserts a time."""

from __future__ import annotations

import json
import random
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny
from jarvis_embed.errors import InputError, UnknownModel
from jarvis_embed.evaluation import bench_report, lanes, latency, limits, peers
from jarvis_embed.evaluation.bench import Settings, run_bench, sample_texts
from jarvis_embed.home import embeddings_folder
from jarvis_embed.models import tune, tuning
from jarvis_embed.models.registry import REGISTRY
from jarvis_embed.models.store import add_model, find_model

ONE_THREAD = tuning.Way("onnx", 1)


class Clock:
    """Time that passes only while an engine works or a pause is made."""

    def __init__(self) -> None:
        self.now = 0.0
        self.log: list[str] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.log.append("pause")

    def engine(self, name: str, seconds: float) -> Any:
        def embed(_text: object) -> np.ndarray:
            self.now += seconds
            self.log.append(name)
            return np.ones((1, 1), np.float32)

        return embed


def test_spread_and_ratio_are_taken_over_rounds() -> None:
    assert latency.spread([3.0, 1.0, 2.0]) == latency.Spread(2.0, 1.0, 3.0)
    assert latency.ratio([1.0, 2.0], [4.0, 4.0]) == latency.Spread(3.0, 2.0, 4.0)
    with pytest.raises(ValueError, match="longer"):
        latency.ratio([1.0], [1.0, 2.0])


def test_quantiles_are_in_milliseconds_of_each_round() -> None:
    times = latency.Times((tuple(n / 1000 for n in range(1, 102)), tuple(n / 1000 for n in range(101, 202))))
    assert times.milliseconds(0.5).low == pytest.approx(51)
    assert times.milliseconds(0.95).high == pytest.approx(196)
    assert times.p50s() == pytest.approx([0.051, 0.151])


def test_every_engine_gets_every_block_once_in_a_changing_order() -> None:
    taken = list(latency.turns(["a", "b", "c"], 40, random.Random(1)))
    orders = {tuple(name for b, name in taken if b == block) for block in range(40)}
    assert all(sorted(order) == ["a", "b", "c"] for order in orders)
    assert len(orders) == 6


def test_single_messages_are_timed_in_blocks_with_a_pause_before_each_turn() -> None:
    clock = Clock()
    engines = {"slow": clock.engine("slow", 0.004), "fast": clock.engine("fast", 0.001)}
    texts = [str(n) for n in range(7)]
    found = latency.time_single(engines, [texts, texts], seed=1, block=5, clock=clock, sleep=clock.sleep)
    assert found["slow"].milliseconds(0.5).median == pytest.approx(4)
    assert found["fast"].milliseconds(0.99).high == pytest.approx(1)
    assert [len(of_round) for of_round in found["slow"].rounds] == [7, 7]  # warm-up and pauses are not among them
    turns = " ".join(clock.log).split("pause")[1:]
    assert len(turns) == 2 * 2 * 2  # rounds × blocks × engines
    assert all(len(set(turn.split())) == 1 for turn in turns)
    assert sorted({len(turn.split()) for turn in turns}) == [2 + latency.WARM_UP, 5 + latency.WARM_UP]


def test_bulk_gives_rates_and_vectors() -> None:
    clock = Clock()
    rates, vectors = latency.time_bulk(
        {"a": clock.engine("a", 0.5)}, ["x"] * 10, 3, seed=1, clock=clock, sleep=clock.sleep
    )
    assert rates["a"] == pytest.approx([20, 20, 20])
    assert vectors["a"].shape == (1, 1)


def test_the_fastest_batch_size_is_found() -> None:
    clock = Clock()

    def embed(_texts: object, size: int) -> None:
        clock.now += abs(size - 32) + 1

    assert latency.best_batch(embed, ["x"], (8, 32, 64), clock=clock, sleep=clock.sleep) == 32


def test_agreement() -> None:
    vectors = tiny.unit_rows(200, 16, clusters=5, seed=1)
    same = latency.agreement(vectors, vectors)
    assert same.cosine_min == pytest.approx(1, abs=1e-6)
    assert (same.recall_at_10, same.texts) == (1.0, 200)
    other = latency.agreement(np.ascontiguousarray(vectors[::-1]), vectors)
    assert other.cosine_mean < 0.9
    assert other.recall_at_10 < 0.9


def test_work_of_minilm() -> None:
    config = replace(tiny.config(6, 384, 12, 1536))
    work = limits.work_of(config, 10, "int8")
    assert work.weight_bytes == 6 * (4 * 384 * 384 + 2 * 384 * 1536)
    assert work.operations == 2 * (work.weight_bytes * 10 + 6 * 2 * 100 * 384)
    assert limits.work_of(config, 10, "fp32").weight_bytes == 4 * work.weight_bytes


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_limits_are_measured(precision: str) -> None:
    limit = limits.limit_of(tiny.config(), 5, precision, 1, limits.peak_rate(precision, 1, 64), 1e9)
    assert min(limit.bound_ms, limit.products_ms, limit.peak_gops) > 0


def test_the_machine_is_described_without_saying_whose_it_is() -> None:
    import platform

    stated = json.dumps(asdict(limits.describe_machine()))
    assert "onnxruntime" in stated
    assert platform.node() not in stated or len(platform.node()) < 4


def _settings(history: Path, **more: Any) -> Settings:
    return Settings(rounds=2, messages=6, bulk=20, threads=1, source=str(history), shapes="none", peers=False, **more)


@pytest.fixture
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "peak_rate", lambda *_: 1e9)
    monkeypatch.setattr(limits, "read_rate", lambda *_: 1e9)


def test_a_minimal_run_has_everything(tiny_folder: Path, home: Path, history: Path, small_limits: None) -> None:
    add_model("tiny", tiny.write_model(home.parent / "m", tiny.config(2, 64, 4, 128)), home)
    seen: list[str] = []
    report = run_bench(["tiny"], _settings(history), home, lambda stage, _done, _total: seen.append(stage))
    result = json.loads(json.dumps(asdict(report)))
    assert set(seen) == {"open", "single", "bulk", "cold", "limits"}
    assert set(result) == {"schema", "date", "settings", "machine", "texts", "rows", "notes"}
    assert str(history.parent) not in json.dumps(result)
    rows = {row["precision"]: row for row in result["rows"]}
    assert set(rows) == set(peers.OUR_FORMS)
    assert rows["fp32 onnx"]["quality"] is None  # it is the reference itself where torch takes no part
    for row in rows.values():
        assert (row["model"], row["engine"], row["shape_only"]) == ("tiny", "ours", False)
        assert row["p50_ms"]["low"] <= row["p50_ms"]["median"] <= row["p99_ms"]["high"]
        assert row["cold_ms"]["low"] > 0
        assert row["peak_mb"] > 1
        assert row["file_mb"] > 0
        assert row["limit"]["tokens"] > 2
    assert "| tiny | ours fp32 onnx |" in bench_report.markdown(result)


def test_torch_takes_part_on_equal_terms(tiny_folder: Path, home: Path, history: Path, small_limits: None) -> None:
    pytest.importorskip("sentence_transformers")
    add_model("tiny", tiny_folder, home)
    candidates, _ = lanes.choose_models(["tiny"], "none", home, home, 1)
    spec, _ = lanes._prepare(candidates[0], "torch", "fp32", 1, home)
    ours, _ = lanes._prepare(candidates[0], "ours", "fp32 onnx", 1, home)
    texts = sample_texts(_settings(history)).bulk
    near = latency.agreement(peers.open_engine(spec)(texts, 4), peers.open_engine(ours)(texts, 4))
    assert near.cosine_min > 0.9999


def test_a_shape_runs_on_random_weights_and_leaves_nothing(tiny_folder: Path, home: Path, tmp_path: Path) -> None:
    config = tiny.config()
    spec = replace(
        REGISTRY["bge-micro"], layers=1, hidden=config.hidden, heads=config.heads, intermediate=64, max_length=32
    )
    shape = lanes.shape_of(spec, find_model(tiny_folder, home), tmp_path / "scratch", seed=1)
    notes: list[str] = []
    opened = list(lanes.open_lanes(shape, 1, tmp_path / "scratch", notes, with_peers=True))
    assert {lane.engine for lane in opened} <= {
        f"ours {form}" for form in peers.OUR_FORMS
    }  # peers are for real weights
    assert shape.shape_only
    assert opened[0].embed(["hey you"], 1).shape == (1, config.hidden)
    assert not home.exists()


def test_what_cannot_be_measured_is_said(tiny_folder: Path, home: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownModel):
        lanes.choose_models(["no-such"], "also", home, tmp_path, 1)
    few = tmp_path / "few.jsonl"
    few.write_text(json.dumps({"sender": "a", "time": 1, "text": "hi"}) + "\n")
    with pytest.raises(InputError, match="different messages"):
        sample_texts(_settings(few))


def test_chitchat_means_its_validation_part() -> None:
    pytest.importorskip("chitchat_dataset")
    from jarvis_embed.sources import open_source
    from jarvis_embed.text import normalise

    texts = sample_texts(Settings(rounds=2, messages=50, bulk=200))
    chats = open_source("chitchat", split="validation").conversations()
    known = {normalise(message.text) for chat in chats for message in chat.messages}
    assert known.issuperset([*texts.bulk, *texts.rounds[0]])
    assert len(set(texts.bulk)) == 200
    assert not set(texts.rounds[0]) & set(texts.rounds[1])
    assert texts == sample_texts(Settings(rounds=2, messages=50, bulk=200))


def test_a_process_that_fails_is_none(tiny_folder: Path, home: Path) -> None:
    spec = peers.EngineSpec("ours", "fp32 onnx", str(tiny_folder / "no"), "", str(home), "mean", 32, 32, 1)
    assert lanes.fresh_process(peers.job(spec, "hey", [], 1)) is None


def test_the_script_of_the_fresh_process_imports_nothing_of_ours() -> None:
    import subprocess

    code = f"import runpy, sys; runpy.run_path({peers.__file__!r}); print([m for m in sys.modules if 'jarvis' in m])"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def _row(model: str, engine: str, precision: str, p50: float, **more: Any) -> dict[str, Any]:
    figure = {"median": p50, "low": p50 - 0.1, "high": p50 + 0.1}
    row = {
        "model": model, "engine": engine, "precision": precision, "shape_only": False, "layers": 6, "p50_ms": figure,
        "p95_ms": figure, "p99_ms": figure, "cold_ms": None, "bulk_rate": figure, "batch": None, "peak_mb": None,
        "file_mb": 1.0, "quality": None, "reference": None, "against": {}, "limit": None,
    }  # fmt: skip
    return {**row, **more}


def test_tables_of_made_up_numbers() -> None:
    ten = {"median": 10.04, "low": 9.5, "high": 11.0}
    against = {"torch fp32": {"single": ten, "bulk": ten, "cold": None}}
    bound = {"tokens": 12, "work": {"operations": 3e8, "weight_bytes": 1e7}, "peak_gops": 2000.0, "bandwidth_gbs": 30.0}
    near = {"cosine_mean": 0.99861, "cosine_min": 0.99, "recall_at_10": 0.9744, "texts": 3000}
    limit = {**bound, "bound_ms": 0.25, "products_ms": 0.5}
    report = {
        "schema": 1,
        "date": "2026-01-02",
        "settings": {"threads": 2, "rounds": 5, "seed": 1, "bulk": 3000},
        "machine": {
            "cpu": "X",
            "cores": 2,
            "flags": [],
            "memory_gb": 8.0,
            "system": "S",
            "python": "3",
            "versions": {},
        },
        "texts": {"source": "s", "different_messages": 4500, "median_characters": 41.0, "median_tokens": {"a": 12}},
        "rows": [
            _row("minilm-l6", "ours", "int8", 0.5, against=against, limit=limit, quality=near, reference="torch fp32"),
            _row("minilm-l6", "torch", "fp32", 5.0, batch=32),
            _row("gte-tiny", "ours", "int8", 1.0, shape_only=True),
        ],
        "notes": ["Something was left out."],
    }
    text = bench_report.markdown(report)
    assert "| minilm-l6 | ours int8 | 0.50 (0.40–0.60) |" in text
    assert "10.0 (9.5–11.0)" in text
    assert "| gte-tiny (shape only) | ours int8 | 2.00 | 2.00 |" in text
    assert "0.9986 | 0.9900 | 0.974 | torch fp32" in text
    assert "| 0.25 | 2.0× | 0.50 | 1.0× |" in text
    assert "**Something was left out.**" in text
    for table in bench_report.tables(report):
        assert all(len(row) == len(table.headings) for row in table.rows)


def test_tuning_is_remembered(tiny_folder: Path, home: Path) -> None:
    add_model("tiny", tiny_folder, home)
    assert tuning.remembered("tiny", "fp32", home) is None
    found = tune.tune("tiny", home, "fp32", rounds=1, cores=1)
    assert found.best == ONE_THREAD
    assert tuning.remembered("tiny", "fp32", home) == ONE_THREAD
    assert tuning.remembered("tiny", "int8", home) is None
    tuning.remember(replace(found, model="other"), home)
    assert tuning.remembered("tiny", "fp32", home) == ONE_THREAD  # both are kept


@pytest.mark.parametrize(
    "damage",
    [
        "",
        "{",
        "[]",
        "null",
        '{"KEY": 3}',
        '{"KEY": {"tiny/fp32": 1}}',
        '{"KEY": {"tiny/fp32": {"engine": "onnx", "threads": "2"}}}',
        '{"KEY": {"tiny/fp32": {"engine": "onnx", "threads": 0}}}',
        '{"KEY": {"tiny/fp32": {"engine": "onnx", "threads": 100000}}}',
        '{"KEY": {"tiny/fp32": {"engine": "abacus", "threads": 1}}}',
    ],
)
def test_a_damaged_memory_is_none_and_is_replaced(home: Path, damage: str) -> None:
    path = embeddings_folder(home) / "tuning.json"
    path.parent.mkdir(parents=True)
    path.write_text(damage.replace("KEY", tuning.machine_key()))
    assert tuning.remembered("tiny", "fp32", home) is None
    tuning.remember(tuning.Tuning("tiny", "fp32", ONE_THREAD, {ONE_THREAD: 0.5}), home)
    assert tuning.remembered("tiny", "fp32", home) == ONE_THREAD


def test_another_machine_is_not_believed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tuning.remember(tuning.Tuning("tiny", "fp32", ONE_THREAD, {ONE_THREAD: 0.5}), home)
    monkeypatch.setattr(tuning, "processor", lambda: "another")
    assert tuning.remembered("tiny", "fp32", home) is None


def test_the_fewest_threads_win_unless_more_are_clearly_faster() -> None:
    one, two, four = (tuning.Way("onnx", threads) for threads in (1, 2, 4))
    assert tune.choose({one: 1.0, two: 0.99, four: 1.2}) == one
    assert tune.choose({one: 1.0, two: 0.6, four: 0.59}) == two
    kernel = tuning.Way("kernel", 1)
    assert tune.choose({one: 1.0, two: 0.6, kernel: 0.5}) == kernel
    assert tune.choose({one: 0.5, kernel: 0.8}) == one
    assert tune.candidates(1) == [1]
    assert tune.candidates(6) == [1, 2, 3, 4, 6]
    assert tune.candidates(24) == [1, 2, 3, 4, 8, 16, 24]
