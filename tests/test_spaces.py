"""Spaces: built from the library, bound to one fingerprint, switched in one step."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jarvis_embed as je
import tiny
from jarvis_embed.config import load_settings, save_settings
from jarvis_embed.errors import (
    FingerprintMismatch,
    HomeLocked,
    InputError,
    SpaceDamaged,
    SpaceError,
    SpaceMissing,
    SpaceStale,
)
from jarvis_embed.home import locked
from jarvis_embed.models.encoder import Encoder, load_encoder
from jarvis_embed.models.engine import Vectors
from jarvis_embed.models.store import add_model, model_home
from jarvis_embed.spaces.artifact import Stream, open_artifact, write_artifact
from jarvis_embed.spaces.generations import current_folder, generations_folder, read_pointer
from jarvis_embed.spaces.index import EXACT_BELOW, TriggerIndex
from jarvis_embed.spaces.space import INDEX_FILE, PAIRS_FILE, VECTORS_FILE
from jarvis_embed.spaces.switch import undo_switch, use_model
from jarvis_embed.spaces.vector_log import VectorLog, text_key


def ingest(home: Path, history: Path) -> None:
    with je.Library.open(home) as library:
        library.ingest(je.sources.open(history))


@pytest.fixture
def built(home: Path, history: Path, encoder: Encoder) -> je.BuildReport:
    ingest(home, history)
    return je.build(encoder, home)


@pytest.fixture
def two_models(home: Path, history: Path, tmp_path: Path) -> tuple[str, str]:
    """Two models of one shape, so that only the fingerprint tells their spaces apart."""
    for seed, name in enumerate(("one", "two")):
        add_model(name, tiny.write_model(tmp_path / name, seed=seed), home)
    save_settings(home, load_settings(home).model_copy(update={"model": "one", "precision": "fp32"}))
    ingest(home, history)
    for name in ("one", "two"):
        je.build(load_encoder(name, home=home), home)
    return "one", "two"


class TestBuildAndSearch:
    def test_every_trigger_finds_its_own_pair(self, built: je.BuildReport, home: Path, encoder: Encoder) -> None:
        with je.Space.open(home=home, encoder=encoder) as space:
            for pair in list(space.library.pairs())[::7]:
                match = space.search(pair.trigger, k=1)[0]
                assert match.score == pytest.approx(1, abs=1e-4)
                assert match.pair.trigger == pair.trigger

    def test_matches_are_the_nearest_by_cosine(self, built: je.BuildReport, home: Path, encoder: Encoder) -> None:
        with je.Space.open(home=home, encoder=encoder) as space:
            pairs = list(space.library.pairs())
            (query,) = encoder.embed(["wanna get dinner tonight"])
            cosines = sorted((float(v @ query) for v in encoder.embed([p.trigger for p in pairs])), reverse=True)
            matches = space.search("wanna get dinner tonight", k=5)
            assert [m.score for m in matches] == pytest.approx(cosines[:5], abs=1e-4)

    def test_equal_texts_are_embedded_once(
        self, home: Path, tmp_path: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lines = [
            {"conversation": str(i), "sender": sender, "time": i * 100 + j, "text": text}
            for i in range(50)
            for j, (sender, text) in enumerate((("a", "hey "), ("b", "hi"), ("a", "lunch?"), ("b", " hey")))
        ]
        (tmp_path / "many.jsonl").write_text("\n".join(map(json.dumps, lines)))
        ingest(home, tmp_path / "many.jsonl")
        embedded: list[str] = []
        embed = Encoder.embed

        def counting(self: Encoder, texts: list[str], *rest: object) -> Vectors:
            embedded.extend(texts)
            return embed(self, texts)

        monkeypatch.setattr(Encoder, "embed", counting)
        report = je.build(encoder, home)
        assert (report.pairs, report.triggers, report.texts, report.embedded) == (150, 3, 3, 3)
        assert sorted(embedded[:3]) == ["hey", "hi", "lunch?"]

    def test_a_second_build_has_nothing_to_do(self, built: je.BuildReport, home: Path, encoder: Encoder) -> None:
        again = je.build(encoder, home)
        assert again.up_to_date
        assert again.generation == built.generation
        forced = je.build(encoder, home, force=True)
        assert (forced.embedded, forced.up_to_date) == (built.texts, False)

    def test_a_later_build_embeds_only_what_is_new(
        self, built: je.BuildReport, home: Path, history: Path, encoder: Encoder
    ) -> None:
        ingest(home, tiny.write_history(history, 240))
        later = je.build(encoder, home)
        assert 0 < later.embedded < 60
        assert later.embedded + later.reused == later.texts

    def test_vectors_of_what_is_gone_are_gone(
        self, built: je.BuildReport, home: Path, history: Path, encoder: Encoder
    ) -> None:
        ingest(home, tiny.write_history(history, 60))
        assert je.build(encoder, home).texts < built.texts
        with je.Space.open(home=home, encoder=encoder) as space, je.Library.open(home) as library:
            assert space.manifest.pairs == library.counts().pairs

    def test_an_empty_library_is_explained(self, home: Path, encoder: Encoder) -> None:
        with pytest.raises(SpaceError, match="Ingest some first"):
            je.build(encoder, home)

    def test_two_builds_at_once_are_refused_with_the_holder_s_pid(
        self, built: je.BuildReport, home: Path, encoder: Encoder
    ) -> None:
        with (
            locked(model_home(encoder.name, home) / "build.lock", "x"),
            pytest.raises(HomeLocked, match=r"process \d+"),
        ):
            je.build(encoder, home)

    def test_a_stale_space_answers_without_what_is_gone(
        self, built: je.BuildReport, home: Path, history: Path, encoder: Encoder
    ) -> None:
        with je.Space.open(home=home, encoder=encoder) as space:
            gone = next(pair for pair in space.library.pairs() if pair.conversation == "cleo")
            lines = [line for line in history.read_text().splitlines() if "cleo" not in line]
            history.write_text("\n".join(lines))
            ingest(home, history)
            assert space.is_stale
            assert len(space.search(gone.trigger, k=50)) == 50
            assert all(match.pair.conversation != "cleo" for match in space.search(gone.trigger, k=50))

    @pytest.mark.parametrize(("text", "k"), [("", 5), (" \n", 5), ("\ufffc", 5), ("hey", 0)])
    def test_what_cannot_be_searched_is_refused(
        self, built: je.BuildReport, home: Path, encoder: Encoder, text: str, k: int
    ) -> None:
        with je.Space.open(home=home, encoder=encoder) as space, pytest.raises(InputError):
            space.search(text, k)


class TestFingerprint:
    """Rule 2: nothing of one space meets another, though both have the same dimensions."""

    def test_a_space_is_not_opened_with_another_encoder(self, two_models: tuple[str, str], home: Path) -> None:
        one, two = two_models
        shutil.copytree(model_home(two, home), model_home(one, home), dirs_exist_ok=True)
        with pytest.raises(FingerprintMismatch) as caught:
            je.Space.open(one, home=home)
        encoders = [load_encoder(name, home=home) for name in two_models]
        for side in encoders:
            assert side.fingerprint in str(caught.value)
        assert f"jarvis-embed build {one}" in str(caught.value)

    @pytest.mark.parametrize("file", [VECTORS_FILE, PAIRS_FILE, INDEX_FILE])
    def test_no_single_file_of_another_space_is_read(self, two_models: tuple[str, str], home: Path, file: str) -> None:
        """Two libraries of equal texts give files of equal size: the manifest's sizes would not tell."""
        folders = [current_folder(model_home(name, home)) for name in two_models]
        assert folders[0] is not None
        assert folders[1] is not None
        assert (folders[0] / file).stat().st_size == (folders[1] / file).stat().st_size
        shutil.copy(folders[1] / file, folders[0] / file)
        with pytest.raises(FingerprintMismatch, match="fingerprint"):
            je.Space.open(two_models[0], home=home)

    def test_new_weights_under_an_old_name_make_the_space_unusable(
        self, two_models: tuple[str, str], home: Path, tmp_path: Path
    ) -> None:
        tiny.write_model(tmp_path / "one", seed=9)
        with pytest.raises(FingerprintMismatch):
            je.Space.open("one", home=home)


class TestDamage:
    @pytest.mark.parametrize("file", [VECTORS_FILE, PAIRS_FILE, INDEX_FILE, "manifest.json"])
    @pytest.mark.parametrize("damage", ["gone", "short", "empty"])
    def test_it_is_found_and_a_build_mends_it(
        self, built: je.BuildReport, home: Path, encoder: Encoder, file: str, damage: str
    ) -> None:
        path = generations_folder(model_home(encoder.name, home)) / built.generation / file
        content = path.read_bytes()
        path.unlink()
        if damage != "gone":
            path.write_bytes(content[: len(content) // 2] if damage == "short" else b"")
        with pytest.raises(SpaceDamaged, match="jarvis-embed build"):
            je.Space.open(home=home, encoder=encoder)
        je.build(encoder, home)
        je.Space.open(home=home, encoder=encoder).close()

    def test_a_changed_byte_is_found_by_the_next_build(
        self, built: je.BuildReport, home: Path, encoder: Encoder
    ) -> None:
        path = generations_folder(model_home(encoder.name, home)) / built.generation / VECTORS_FILE
        content = bytearray(path.read_bytes())
        content[-5] ^= 0xFF
        path.write_bytes(content)
        assert not je.build(encoder, home).up_to_date

    def test_a_space_that_was_never_built_is_explained(self, home: Path, encoder: Encoder) -> None:
        with pytest.raises(SpaceMissing, match="jarvis-embed build tiny"):
            je.Space.open(home=home, encoder=encoder)


class TestSwitch:
    def test_use_and_rollback(self, two_models: tuple[str, str], home: Path) -> None:
        one, two = two_models
        assert use_model(two, home).after == two
        assert load_settings(home).model == two
        assert undo_switch(home).after == one
        assert load_settings(home).model == one
        assert undo_switch(home).after == two  # done twice, it redoes

    def test_a_missing_or_stale_space_is_refused(
        self, two_models: tuple[str, str], home: Path, history: Path, tmp_path: Path
    ) -> None:
        add_model("three", tiny.write_model(tmp_path / "three", seed=3), home)
        with pytest.raises(SpaceMissing, match="jarvis-embed build three"):
            use_model("three", home)
        ingest(home, tiny.write_history(history, 210))
        with pytest.raises(SpaceStale, match="jarvis-embed build two"):
            use_model("two", home)
        assert load_settings(home).model == "one"

    def test_rollback_goes_back_to_the_generation_before(
        self, two_models: tuple[str, str], home: Path, history: Path
    ) -> None:
        before = read_pointer(model_home("one", home))
        assert before is not None
        with pytest.raises(SpaceError, match="nothing before"):
            undo_switch(home)
        ingest(home, tiny.write_history(history, 210))
        je.build(load_encoder("one", home=home), home)
        assert undo_switch(home).after == before.current
        with je.Space.open("one", home=home) as space:
            assert space.folder.name == before.current

    def test_only_two_generations_are_kept(self, built: je.BuildReport, home: Path, encoder: Encoder) -> None:
        for _ in range(3):
            je.build(encoder, home, force=True)
        names = sorted(entry.name for entry in generations_folder(model_home(encoder.name, home)).iterdir())
        assert names == ["000003", "000004"]


class TestArtifact:
    @settings(deadline=None)
    @given(st.lists(st.integers(0, 5), min_size=1, max_size=3), st.sampled_from(["f4", "i8", "i4", "u1"]))
    def test_what_is_written_is_read_and_is_safetensors(
        self, tmp_path_factory: pytest.TempPathFactory, shape: list[int], dtype: str
    ) -> None:
        from safetensors import safe_open

        path = tmp_path_factory.mktemp("artifact") / "file"
        array = np.arange(np.prod(shape), dtype=dtype).reshape(shape)
        write_artifact(path, {"a": array, "b": Stream(array.shape, array.dtype, iter(array))}, "print")
        for name, read in open_artifact(path, "print").items():
            assert np.array_equal(read, array), name
        with safe_open(path, framework="numpy") as file:  # the format's own library reads it too
            assert file.metadata() == {"fingerprint": "print"}
            assert np.array_equal(file.get_tensor("b"), array)

    @settings(deadline=None, max_examples=200)
    @given(st.data())
    def test_no_damage_is_read_as_numbers_of_the_wrong_place(
        self, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
    ) -> None:
        path = tmp_path_factory.mktemp("artifact") / "file"
        write_artifact(path, {"a": np.arange(6, dtype=np.float32)}, "print")
        content = bytearray(path.read_bytes())
        header = 8 + int.from_bytes(content[:8], "little")
        position = data.draw(st.integers(0, header - 1))
        content[position] = data.draw(st.integers(0, 255))
        path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
        try:
            arrays = open_artifact(path, "print")
        except (SpaceDamaged, FingerprintMismatch):
            return
        assert all(array.nbytes <= len(content) for array in arrays.values())


class TestIndex:
    @pytest.mark.parametrize("rows", [1, 30, 3000])
    def test_a_small_index_is_exact(self, rows: int) -> None:
        vectors = tiny.unit_rows(rows, 24, 5, 0)
        index = TriggerIndex.load(TriggerIndex.build(vectors).serialised(), vectors)
        scores, found = index.search(vectors[:3], 10)
        assert index.kind == "exact"
        assert found.shape == scores.shape == (min(3, rows), min(10, rows))
        assert np.array_equal(found[:, 0], np.arange(min(3, rows)))

    def test_a_large_index_finds_98_percent_of_the_true_neighbours(self) -> None:
        vectors = tiny.unit_rows(EXACT_BELOW + 5000, 32, 400, 0)
        index = TriggerIndex.load(TriggerIndex.build(vectors).serialised(), vectors)
        queries = tiny.unit_rows(200, 32, 400, 0)
        _, found = index.search(queries, 10)
        true = np.argsort(-(queries @ vectors.T), axis=1)[:, :10]
        recall = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found, true, strict=True)])
        assert index.kind == "ivf"
        assert recall >= 0.98


class TestVectorLog:
    @settings(deadline=None, max_examples=50)
    @given(st.integers(0, 400))
    def test_cut_anywhere_it_keeps_every_whole_record(
        self, tmp_path_factory: pytest.TempPathFactory, kept: int
    ) -> None:
        path = tmp_path_factory.mktemp("log") / "log"
        keys = [text_key(str(number)) for number in range(4)]
        vectors = tiny.unit_rows(4, 8, 2, 0)
        VectorLog(path, 8).append(keys, vectors)
        content = path.read_bytes()
        path.write_bytes(content[:kept])
        log = VectorLog(path, 8)
        whole = min(kept, len(content)) // 48
        assert list(log.rows) == keys[:whole]
        log.append(keys[whole:], vectors[whole:])
        again = VectorLog(path, 8)
        assert list(again.rows) == keys
        assert np.array_equal(again.vectors(), vectors)
