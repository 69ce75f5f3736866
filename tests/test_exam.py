"""The exam as a whole, on a tiny model and a made-up history and made-up data files."""

from __future__ import annotations

import gzip
import importlib.util
import json
import random
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import jarvis_embed as je
import tiny
from conftest import SHARED
from jarvis_embed.cli import app
from jarvis_embed.errors import EvaluationError, SourceError
from jarvis_embed.evaluation import bootstrap, competitors, data, metrics
from jarvis_embed.evaluation import exam as exam_module
from jarvis_embed.evaluation.exam import run_exam
from jarvis_embed.evaluation.exam_record import store_exam, stored_exam
from jarvis_embed.evaluation.histories import chitchat_history, own_history
from jarvis_embed.evaluation.material import cut_halves
from jarvis_embed.messages import Conversation, Message
from jarvis_embed.models.encoder import Encoder
from jarvis_embed.models.store import add_model, model_home
from jarvis_embed.spaces.generations import current_folder

REPLIES = {"lunch?": "sure when", "dinner tonight?": "yes see you", "how are you": "good thanks", "movie?": "no work"}


def made_up_history(exchanges: int = 400, seed: int = 0) -> list[Conversation]:
    """Friends who ask four things in many words, and are answered in kind."""
    draw = random.Random(seed)
    conversations = []
    for friend in range(4):
        messages = []
        for number in range(exchanges // 4):
            for turn in range(12):
                asked = draw.choice(sorted(REPLIES))
                extra = " ".join(draw.choices(tiny.WORDS, k=4))
                text = f"{asked} {extra}" if turn % 2 == 0 else f"{REPLIES[asked]} {extra}"
                time = (number * 100 + turn) * 360_000
                messages.append(Message(f"{number}.{turn}", "ab"[turn % 2], time, text))
        conversations.append(Conversation(f"friend{friend}", tuple(messages)))
    return conversations


def ingest(history: list[Conversation], file: Path, home: Path) -> None:
    """Bring a history into the library as a user would: by a file."""
    lines = [
        {"conversation": one.key, "sender": m.sender, "time": m.sent_ms / 1000, "text": m.text}
        for one in history
        for m in one.messages
    ]
    file.write_text("\n".join(map(json.dumps, lines)))
    with je.Library.open(home) as library:
        library.ingest(je.sources.open(file))


def write_data(folder: Path, seed: int = 0) -> Path:
    """Every file of the documented schemas, with made-up words."""
    draw = random.Random(seed)

    def said(k: int = 5) -> str:
        return " ".join(draw.choices(tiny.WORDS, k=k))

    contexts = [said() for _ in range(20)]  # each has two rated replies
    files: dict[str, list[dict[str, Any]]] = {
        "dailydialog": [
            {
                "id": f"dd-{i}",
                "split": "validation" if i % 2 else "train",
                "turns": [{"text": said()} for _ in range(11)],
            }
            for i in range(20)
        ],
        "dailydialog_pp": [
            {
                "id": f"ddpp-{i}",
                "context": [said(), said()],
                "positives": [said() for _ in range(5)],
                "adversarial": [said(), said()] if i % 2 else [],
                "random": [said(), said()] if i % 2 else [],
            }
            for i in range(120)
        ],
        "quality_dev": [
            {"source": f"s{i % 2}", "context": [contexts[i % 20]], "response": said(), "score": draw.random() * 4 + 1}
            for i in range(40)
        ],
        "stsb_dev": [{"a": said(), "b": said(), "score": draw.random() * 5} for _ in range(40)],
    }
    folder.mkdir()
    for name, records in files.items():
        with gzip.open(folder / f"{name}.jsonl.gz", "wt", encoding="utf-8") as file:
            file.write("\n".join(map(json.dumps, records)) + "\n")
    return folder


@pytest.fixture
def with_reference(tiny_folder: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tiny judge instead of minilm-l6, so that an exam takes seconds."""
    monkeypatch.setattr(exam_module, "REFERENCE", str(tiny_folder))


@pytest.fixture
def examined(tmp_path: Path, encoder: Encoder, home: Path, with_reference: None) -> Callable[..., je.Exam]:
    folder = write_data(tmp_path / "data")

    def run(model: Encoder | str | Path = encoder, **options: Any) -> je.Exam:
        given = {"data": folder, "home": home, "timed": False, "source": "own"} | options
        return run_exam(model, made_up_history(), **given)

    return run


def test_every_metric_has_its_interval_and_its_baselines(examined: Callable[..., je.Exam]) -> None:
    found = examined()
    rows = [row for row in found.metrics if not row.name.endswith("_f1")]
    assert {row.name for row in rows} == {
        *("response_accuracy", "trigger_correlation", "reply_similarity", "reply_similarity_share", "match_agreement"),
        *("thread_similarity_same", "thread_similarity_other", "thread_similarity_auc"),
        *("thread_retrieval", "quality_correlation", "quality_ranking"),
        *("quality_auc_random", "quality_auc_adversarial", "general_similarity"),
    }
    for row in rows:
        assert row.value is not None, row.key
        assert row.interval is not None
        assert row.interval.low <= row.interval.high
        assert row.n > 0
        assert row.conversations > 1
        if row.name != "match_agreement":
            assert {"random", "tf-idf"} <= row.baselines.keys()
    assert {"value", "floor", "ceiling"} == set(found.metric("reply_similarity_share", "dailydialog_pp").beside)
    assert set(found.metric("thread_retrieval").beside) == {"among", "among held-out ones alone"}
    assert {"s0", "s1", "pooled"} == set(found.metric("quality_correlation").beside)
    assert len({row.key for row in found.metrics}) == len(found.metrics)


def test_the_seed_decides_every_figure(examined: Callable[..., je.Exam]) -> None:
    one, again, other = (examined(seed=seed, data=None).metrics for seed in (1, 1, 2))
    assert one == again
    assert one != other


def test_a_missing_file_is_named_and_no_figure_is_invented(examined: Callable[..., je.Exam], tmp_path: Path) -> None:
    (tmp_path / "data" / "stsb_dev.jsonl.gz").unlink()
    row = examined().metric("general_similarity")
    assert row.value is None
    assert row.interval is None
    assert row.needs == "needs stsb_dev.jsonl.gz in --data DIR"


def test_a_short_history_says_what_it_lacks(encoder: Encoder, home: Path, with_reference: None) -> None:
    found = run_exam(encoder, made_up_history(20), home=home, timed=False, baselines=False)
    row = found.metric("response_accuracy")
    assert row.value is None
    assert row.needs.startswith("needs 100 held-out pairs")


def test_halves_are_held_out_ones_filled_up_with_others_from_training() -> None:
    held_out = [(f"e{n}", [f"{n}.{turn}" for turn in range(n)]) for n in range(3, 9)]
    training = [(f"t{n}", [f"t{n}.{turn}" for turn in range(5)]) for n in range(50)]
    halves = cut_halves(held_out, training, seed=1, number=20)
    assert sorted(halves.names) == ["e4", "e5", "e6", "e7", "e8"]
    assert len(set(halves.first)) == len(set(halves.second)) == 20
    at = halves.names.index("e5")
    assert (halves.first[at], halves.second[at]) == (("5.0", "5.1"), ("5.2", "5.3", "5.4"))
    assert all(half[0].startswith("t") for half in halves.first[5:])
    assert cut_halves(held_out[:1], training, seed=1).names == ()


def test_with_nothing_at_all_the_error_says_what_to_give(encoder: Encoder, home: Path, with_reference: None) -> None:
    with pytest.raises(EvaluationError, match="--chitchat"):
        run_exam(encoder, None, home=home)


def test_two_models_are_compared_pair_by_pair(examined: Callable[..., je.Exam], tmp_path: Path, home: Path) -> None:
    other = je.load_encoder(tiny.write_model(tmp_path / "other", seed=5), home=home, precision="fp32", cache=0)
    one, two = examined(baselines=False), examined(other, baselines=False)
    for key, ours in one.contributions.items():
        found = bootstrap.difference(ours, two.contributions[key], seed=1)
        assert found.interval.low <= found.value + 0.05
        assert found.value == pytest.approx(ours.value - two.contributions[key].value)


def test_a_parent_becomes_a_baseline_and_a_copy_of_it_gains_nothing(
    examined: Callable[..., je.Exam], tiny_folder: Path
) -> None:
    rows = [row for row in examined(parent=tiny_folder).metrics if "parent" in row.baselines]
    assert len(rows) > 10
    for row in rows:
        assert row.baselines["parent"].difference.value == 0
        assert not row.baselines["parent"].difference.is_gain


def test_the_sealed_part_is_the_newest_and_another_row(examined: Callable[..., je.Exam]) -> None:
    found = examined(sealed=True, data=None)
    assert found.part == "sealed test"
    assert found.metric("response_accuracy").on == "own, sealed test"
    assert found.metric("response_accuracy") != examined(data=None).metric("response_accuracy")


class _Contextual:
    """An encoder that was trained to read context and has another projection for replies."""

    reads_context = has_response_side = True

    def __init__(self, encoder: Encoder) -> None:
        self.name, self.encoder = "contextual", encoder
        self.asked: list[tuple[str, ...]] = []

    def embed(self, texts: Sequence[str], progress: object = None) -> np.ndarray:
        return self.encoder.embed(texts)

    def embed_responses(self, texts: Sequence[str]) -> np.ndarray:
        return self.encoder.embed([f"reply {text}" for text in texts])

    def embed_in_context(self, triggers: Sequence[str], contexts: Sequence[Sequence[str]]) -> np.ndarray:
        self.asked += map(tuple, contexts)
        pairs = zip(triggers, contexts, strict=True)
        return self.encoder.embed([" ".join([*context, "then", trigger]) for trigger, context in pairs])


class TestCompetitors:
    def test_a_model_that_reads_context_is_asked_in_its_own_way(self, encoder: Encoder) -> None:
        model = _Contextual(encoder)
        who = competitors.EncoderCompetitor(model)  # type: ignore[arg-type]
        assert who.reads_context
        found = who.triggers(["lunch?"], [["one", "two", "three"]])
        assert model.asked[-1] == ("two", "three")
        assert found[0] == pytest.approx(model.embed_in_context(["lunch?"], [["two", "three"]])[0])
        assert who.responses(["sure", "no"]) == pytest.approx(model.embed_responses(["sure", "no"]))

    def test_any_other_reads_context_and_trigger_as_one_text(self, encoder: Encoder) -> None:
        who = competitors.EncoderCompetitor(encoder)
        assert not who.reads_context
        assert who.triggers(["lunch?"], [["hey", "hi"]])[0] == pytest.approx(encoder.embed(["hey hi lunch?"])[0])
        assert who.responses(["sure"])[0] == pytest.approx(encoder.embed(["sure"])[0])

    def test_every_text_is_embedded_once(self, encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
        who = competitors.EncoderCompetitor(encoder)
        seen: list[str] = []
        embed = encoder.embed
        monkeypatch.setattr(encoder, "embed", lambda texts, *_: seen.extend(texts) or embed(texts))
        who.messages(["hey", "lunch?", "hey"])
        who.triggers(["lunch?", "movie?"])
        assert seen == ["hey", "lunch?", "movie?"]

    def test_words_in_common_are_all_that_tf_idf_sees(self) -> None:
        who = competitors.TfidfCompetitor(["lunch today", "movie tonight", "lunch"])
        left, right = who.messages(["lunch", "lunch"]), who.messages(["lunch today", "movie"])
        first, second = np.asarray(left.multiply(right).sum(1)).ravel()
        assert first > 0.5
        assert second == 0

    def test_a_random_direction_belongs_to_its_text(self) -> None:
        who = competitors.RandomCompetitor(seed=1)
        one, two, other = who.messages(["hey", "hey", "lunch?"])
        assert np.array_equal(one, two)
        assert not np.array_equal(one, other)

    def test_the_learned_map_undoes_a_rotation(self) -> None:
        vectors = tiny.unit_rows(1000, 16, 200, seed=0)
        turned, _ = np.linalg.qr(np.eye(16) + 0.4 * np.random.default_rng(0).normal(size=(16, 16)))
        responses = (vectors @ turned).astype(np.float32)
        weights = competitors.learn_map(vectors, responses, seed=0, passes=200, rate=3e-3)
        mapped = vectors @ weights
        mapped /= np.linalg.norm(mapped, axis=1, keepdims=True)
        names = list(map(str, range(1000)))
        before, after = (metrics.response_accuracy(side, responses, names, seed=0).value for side in (vectors, mapped))
        assert before < 0.5
        assert after > 0.95

    def test_without_scikit_learn_the_error_says_what_to_install(
        self, examined: Callable[..., je.Exam], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        found = importlib.util.find_spec
        monkeypatch.setattr(
            competitors.importlib.util, "find_spec", lambda name: None if name == "sklearn" else found(name)
        )
        with pytest.raises(EvaluationError, match=r"jarvis-embed\[train\]"):
            examined()
        assert examined(baselines=False).metric("response_accuracy").value is not None


class TestData:
    def test_every_schema_is_read(self, tmp_path: Path) -> None:
        read = data.read_folder(write_data(tmp_path / "data"))
        assert read.dailydialog is not None
        assert read.dailydialog[0].split == "train"
        assert read.dailydialog_pp is not None
        assert len(read.dailydialog_pp[0].positives) == 5
        assert read.quality_dev is not None
        assert read.stsb_dev is not None

    def test_a_plain_file_counts_too(self, tmp_path: Path) -> None:
        (tmp_path / "stsb_dev.jsonl").write_text('{"a": "x", "b": "y", "score": 2}\n\n')
        assert data.read_scored(tmp_path, "stsb_dev") == (data.ScoredPair("x", "y", 2.0),)

    @pytest.mark.parametrize(
        "line",
        ["{broken", "[]", '{"a": "secret", "b": 3, "score": 1}', '{"a": "secret"}', '{"a":"x","b":"y","score":"z"}'],
    )
    def test_a_broken_line_is_named_by_its_number_without_its_text(self, tmp_path: Path, line: str) -> None:
        (tmp_path / "stsb_dev.jsonl").write_text('{"a": "x", "b": "y", "score": 2}\n' + line)
        with pytest.raises(SourceError, match="line 2") as caught:
            data.read_scored(tmp_path, "stsb_dev")
        assert "secret" not in str(caught.value)

    @pytest.mark.parametrize("content", [b"\x1f\x8bbroken", b"", b"\xff\xfe"])
    def test_a_broken_file_is_an_error(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "stsb_dev.jsonl.gz").write_bytes(content)
        with pytest.raises(SourceError, match="stsb_dev"):
            data.read_folder(tmp_path)

    def test_no_folder_is_an_error_and_no_file_is_none(self, tmp_path: Path) -> None:
        assert data.read_folder(tmp_path) == data.PublicData()
        with pytest.raises(SourceError, match="no folder"):
            data.read_folder(tmp_path / "nowhere")


class TestStored:
    def test_in_the_generation_of_the_space_if_it_is_of_the_same_model(
        self, tiny_folder: Path, history: Path, home: Path, with_reference: None, tmp_path: Path
    ) -> None:
        with je.Library.open(home) as library:
            library.ingest(je.sources.open(history))
        add_model("tiny", tiny_folder, home)
        found = run_exam("tiny", data=write_data(tmp_path / "data"), home=home, precision="fp32", baselines=False)
        assert store_exam(found, home).parent == model_home("tiny", home)
        je.build(je.load_encoder("tiny", home=home, precision="fp32"), home)
        path = store_exam(found, home)
        assert path.parent == current_folder(model_home("tiny", home))
        assert path.stat().st_mode & 0o777 == 0o600
        stated = stored_exam("tiny", found.fingerprint, found.source, found.part, home)
        assert stated == json.loads(json.dumps(found.as_dict()))
        assert stored_exam("tiny", "another", found.source, found.part, home) is None
        assert "friend" not in path.read_text()
        with je.Space.open("tiny", home=home, precision="fp32") as space:
            assert space.search("lunch?")

    def test_search_is_measured_on_the_space(
        self, tiny_folder: Path, home: Path, with_reference: None, tmp_path: Path
    ) -> None:
        ingest(made_up_history(), tmp_path / "own.jsonl", home)
        add_model("tiny", tiny_folder, home)
        je.build(je.load_encoder("tiny", home=home, precision="fp32"), home)
        found = run_exam("tiny", own_history(home), home=home, precision="fp32", baselines=False)
        search, latency = found.metric("search"), found.metric("latency")
        assert search.on.startswith("the space")
        assert search.value == 1
        assert search.beside["bytes_per_vector"] >= 32 * 4
        assert {"p95_ms", "p99_ms", "messages_per_s", "cold_ms", "peak_mb"} <= latency.beside.keys()


class TestCommand:
    def run(self, *arguments: str) -> Any:
        return CliRunner().invoke(app, ["exam", *arguments])

    def test_a_table_for_a_person_and_json_for_a_machine(
        self, tiny_folder: Path, home: Path, with_reference: None, tmp_path: Path
    ) -> None:
        ingest(made_up_history(), tmp_path / "own.jsonl", home)
        options = ["--data", str(write_data(tmp_path / "data")), "--precision", "fp32", "--no-timed"]
        shown = self.run(str(tiny_folder), *options)
        assert shown.exit_code == 0, shown.output
        for word in ("own, validation", "response_accuracy, single turn", "95 %", "tf-idf", "floor", "Stored: "):
            assert word in shown.output
        told = json.loads(self.run(str(tiny_folder), *options, "--json").stdout)
        assert (told["source"], told["part"], told["seed"]) == ("own", "validation", 1)
        assert "contributions" not in told
        values = {(row["name"], row["on"], row["variant"]): row["value"] for row in told["metrics"]}
        assert 0.5 < values["trigger_f1", "gold labels, chitchat validation", ""] <= 1
        assert set(told["confusions"]) == {"trigger_f1", "response_f1"}
        assert 0 < values["response_accuracy", "own, validation", "single turn"] < 1

    def test_the_sealed_part_is_not_opened_by_accident(self, home: Path) -> None:
        assert self.run("--chitchat", "--sealed").exit_code == 1
        done = subprocess.run(
            [sys.executable, "-m", "jarvis_embed", "exam", "--chitchat", "--sealed", "--json"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1
        assert "--sealed --yes" in json.loads(done.stdout)["next_step"]

    def test_one_s_own_history_must_be_there_if_it_is_asked_for(self, home: Path) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "jarvis_embed", "exam", "--own"], capture_output=True, text=True, check=False
        )
        assert done.returncode == 1
        assert "jarvis-embed ingest SOURCE" in done.stderr


def test_the_anchors_of_the_untuned_model(minilm_home: Path) -> None:
    """What was measured of minilm-l6 before there was this code, on public data."""
    folder = SHARED / "data"
    if not folder.is_dir():
        pytest.skip("no data beside the checkout")
    found = run_exam("minilm-l6", data=folder, home=minilm_home, precision="fp32", baselines=False, timed=False)
    for name, expected in (("trigger_correlation", 0.42), ("quality_correlation", 0.27), ("general_similarity", 0.859)):
        assert found.metric(name, variant="").value == pytest.approx(expected, abs=0.01), name
    share = found.metric("reply_similarity_share")
    assert share.value == pytest.approx(0.38, abs=0.01)
    assert share.beside["floor"] == pytest.approx(0.27, abs=0.01)
    assert share.beside["ceiling"] == pytest.approx(0.63, abs=0.01)
    for part, expected in (("same", 0.45), ("other", 0.09), ("auc", 0.97)):
        assert found.metric(f"thread_similarity_{part}").value == pytest.approx(expected, abs=0.01)


@pytest.mark.usefixtures("home")
def test_chitchat_is_examined_on_its_validation_part(
    encoder: Encoder, home: Path, with_reference: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("chitchat_dataset")
    history = chitchat_history()
    found = run_exam(encoder, history, source="chitchat", home=home, baselines=False, timed=False)
    row = found.metric("response_accuracy", "chitchat, validation", "with context")
    assert row.n > 8000
    names = found.contributions[row.key].conversations
    assert {name[0] for name in names} == {"e"}
