"""A delta beside a generation answers as a whole build does, and gives way to one where texts must be forgotten."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

import jarvis_embed as je
import tiny
from jarvis_embed.models.encoder import Encoder
from jarvis_embed.models.store import model_home
from jarvis_embed.spaces.delta import DELTA_FILE
from jarvis_embed.spaces.generations import current_folder, read_pointer, roll_back
from jarvis_embed.spaces.vector_log import text_key
from jarvis_embed.text import normalise

Line = dict[str, object]


def lines(first: int, last: int) -> list[Line]:
    """Messages of one talk; a text depends on its number alone."""
    made = []
    for number in range(first, last):
        draw = random.Random(number)
        text = " ".join(draw.choices(tiny.WORDS, k=draw.randint(1, 6)))
        made.append({"id": str(number), "conversation": "c", "sender": "ab"[number % 2], "time": number, "text": text})
    return made


def ingest(home: Path, path: Path, messages: list[Line]) -> je.IngestReport:
    path.write_text("\n".join(map(json.dumps, messages)) + "\n")
    with je.Library.open(home) as library:
        return library.ingest(je.sources.open(path))


def answers(home: Path, encoder: Encoder) -> list[list[tuple[int, float]]]:
    """What the space finds for many texts, as pairs and cosines."""
    with je.Space.open(home=home, encoder=encoder) as space:
        queries = [str(line["text"]) for line in lines(0, 40)]
        return [sorted((m.pair.id, round(m.score, 4)) for m in space.search(query, k=400)) for query in queries]


def keys_of(home: Path, encoder: Encoder) -> set[bytes]:
    """The keys of all texts that any generation of the space has a vector of."""
    found = set()
    for file in (model_home(encoder.name, home) / "generations").rglob("*.safetensors"):
        tensors = load_file(file)
        found |= {key.tobytes() for key in tensors.get("keys", ())}
    return found


@pytest.fixture
def built(home: Path, tmp_path: Path, encoder: Encoder) -> Path:
    ingest(home, tmp_path / "file.jsonl", lines(0, 300))
    je.build(encoder, home)
    return home


def test_a_few_new_messages_share_the_files_of_the_generation_before(
    built: Path, tmp_path: Path, encoder: Encoder
) -> None:
    before = current_folder(model_home(encoder.name, built))
    ingest(built, tmp_path / "file.jsonl", lines(0, 310))
    report = je.build(encoder, built)
    after = current_folder(model_home(encoder.name, built))
    assert report.delta == 10
    assert before is not None
    assert after is not None
    assert (after / "index.safetensors").samefile(before / "index.safetensors")
    assert (after / DELTA_FILE).is_file()


def test_a_delta_answers_as_a_whole_build(built: Path, tmp_path: Path, encoder: Encoder) -> None:
    for last in (305, 312, 330):
        ingest(built, tmp_path / "file.jsonl", lines(0, last))
        assert je.build(encoder, built).delta == last - 300
        with_delta = answers(built, encoder)
        report = je.build(encoder, built, force=True)
        assert report.delta == 0
        assert with_delta == answers(built, encoder)
        back(built, encoder)


def back(home: Path, encoder: Encoder) -> None:
    """To the generation before."""
    roll_back(model_home(encoder.name, home))


def test_a_growing_turn_replaces_its_pair(built: Path, tmp_path: Path, encoder: Encoder) -> None:
    more = {**lines(299, 300)[0], "id": "more", "time": 299.5, "text": "home late"}
    report = ingest(built, tmp_path / "file.jsonl", [*lines(0, 300), more])
    assert (report.new, report.changed) == (1, 0)
    assert je.build(encoder, built).delta == 1
    with je.Space.open(home=built, encoder=encoder) as space:
        last = max(space.library.pairs(), key=lambda pair: pair.response_ms)
        assert last.response.endswith("\nhome late")
        found = space.search(last.trigger, k=400)
        assert last.id in [match.pair.id for match in found]
        assert len({match.pair.id for match in found}) == len(found)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(st.integers(0, 60), min_size=2, max_size=60), min_size=2, max_size=4))
def test_whatever_comes_and_goes_the_space_answers_as_one_built_anew(
    tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path, versions: list[list[int]]
) -> None:
    folder = tmp_path_factory.mktemp("home")
    encoder = je.load_encoder(tiny_folder, home=folder, precision="fp32")
    for version in versions:
        talk = [
            lines(number, number + 1)[0] | {"sender": "ab"[place % 2]}
            for place, number in enumerate(sorted(set(version)))
        ]
        if len(talk) < 2:
            continue
        ingest(folder, folder / "file.jsonl", talk)
        je.build(encoder, folder)
        kept = answers(folder, encoder)
        je.build(encoder, folder, force=True)
        assert kept == answers(folder, encoder)


@pytest.mark.parametrize("change", ["edited", "removed"])
def test_a_text_that_is_edited_or_removed_leaves_every_generation(
    built: Path, tmp_path: Path, encoder: Encoder, change: str
) -> None:
    secret = "xylophone grab dinner"
    spoken = [*lines(0, 300), *lines(300, 302)]
    ingest(built, tmp_path / "file.jsonl", [*spoken[:-1], {**spoken[-1], "text": secret}])
    je.build(encoder, built)
    key = text_key(normalise(secret))
    assert key in keys_of(built, encoder)
    ingest(built, tmp_path / "file.jsonl", spoken if change == "edited" else spoken[:-1])
    report = je.build(encoder, built)
    assert report.delta == 0
    assert key not in keys_of(built, encoder)
    pointer = read_pointer(model_home(encoder.name, built))
    assert pointer is not None
    assert pointer.previous is None


def test_a_damaged_file_is_not_shared(built: Path, tmp_path: Path, encoder: Encoder) -> None:
    folder = current_folder(model_home(encoder.name, built))
    assert folder is not None
    damaged = bytearray((folder / "vectors.safetensors").read_bytes())
    damaged[-5] ^= 255
    (folder / "vectors.safetensors").write_bytes(damaged)
    ingest(built, tmp_path / "file.jsonl", lines(0, 303))
    report = je.build(encoder, built)
    assert (report.delta, report.reused) == (0, 0)


@pytest.mark.parametrize("call", ["write_artifact", "write_manifest", "share_file", "file_marks"])
def test_dying_at_each_step_of_a_delta_leaves_a_working_space(
    built: Path, tmp_path: Path, encoder: Encoder, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    ingest(built, tmp_path / "file.jsonl", lines(0, 305))
    before = answers(built, encoder)
    with monkeypatch.context() as patch:
        patch.setattr(f"jarvis_embed.spaces.update.{call}", die)
        with pytest.raises(KeyboardInterrupt):
            je.build(encoder, built)
    assert answers(built, encoder) == before
    je.build(encoder, built, force=True)  # writes all files; those that the killed delta shared must stay as they are
    back(built, encoder)
    assert answers(built, encoder) == before


def test_where_files_cannot_be_shared_they_are_copied(
    built: Path, tmp_path: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr("os.link", refuse)
    ingest(built, tmp_path / "file.jsonl", lines(0, 305))
    assert je.build(encoder, built).delta == 5
    assert answers(built, encoder)
