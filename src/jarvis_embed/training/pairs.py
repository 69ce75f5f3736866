"""1A: from a person's pairs to a trained model that was examined: select, learn, save, examine, judge."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from ..config import DEFAULT_MODEL, load_settings
from ..conversations.pairs import pairs_in
from ..conversations.selection import Selection, SelectionReport
from ..errors import InputError, ModelError, SourceError, TrainingError
from ..evaluation.data import read_folder
from ..evaluation.exam import REFERENCE, run_exam
from ..evaluation.exam_record import Exam, store_exam
from ..evaluation.gate import judge
from ..evaluation.histories import chitchat_history, own_history
from ..evaluation.material import Material as Examined
from ..evaluation.material import prepare
from ..evaluation.splits import Sides, pair_texts
from ..home import home_folder, locked, remove_folder
from ..messages import Conversation
from ..models.encoder import load_encoder
from ..models.lineage import Lineage, Verdict, read_lineage, weights_checksum, write_lineage
from ..models.registry import REGISTRY
from ..models.store import add_model, find_model, model_home, pulled_folder
from ..models.weights import ModelFolder
from .material import (
    Material,
    PairSet,
    Texts,
    assembled,
    chosen_pairs,
    dailydialog_conversations,
    material_checksum,
    numbered_pairs,
    samsum_conversations,
    training_records,
    training_sentences,
)
from .mining import mine_triplets
from .recipe import Recipe, Source

if TYPE_CHECKING:
    from .network import Network
    from .runner import RunReport, Watch

LEAST_PAIRS: Final = 200

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Trained:
    """A trained model and what its exam said."""

    name: str
    folder: Path
    run: RunReport
    selections: Mapping[str, SelectionReport]
    exam: Exam
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Ground:
    """Where a run stands: what may be learned from, and what is examined."""

    sides: Sides
    source: str
    examined: Examined
    held_out: tuple[str, ...]


def stand(recipe: Recipe, data: Path | None, home: Path) -> Ground:
    """Read the history of the recipe's first source, and all that will be examined.

    Raises:
        InputError, SourceError: the history, or the folder that the recipe's other sources need, is not there.
    """
    source = "own" if "own" in recipe.sources else "chitchat"
    sides = own_history(home) if source == "own" else chitchat_history()
    public = read_folder(data)
    examined = prepare(sides, source, public, sealed=False, seed=recipe.seed)
    held_out = list(pair_texts(examined.pairs))
    held_out += pair_texts(pairs_in(sides.test))
    held_out += [text for record in examined.replies or () for text in (*record.context, *record.positives)]
    held_out += [text for one in public.dailydialog or () if one.split == "validation" for text in one.turns]
    held_out += [text for one in public.stsb_dev or () for text in (one.a, one.b)]
    held_out += [text for one in public.quality_dev or () for text in (*one.context, one.response)]
    return Ground(sides, source, examined, tuple(dict.fromkeys(held_out)))


def gather_reports(recipe: Recipe, data: Path | None, home: Path) -> dict[str, SelectionReport]:
    """What would be learned from, and what would be left out and why; nothing is embedded or trained."""
    ground = stand(recipe, data, home)
    return {name: chosen_of(name, ground, recipe, data).report for name in recipe.sources}


def gather(
    ground: Ground, recipe: Recipe, parent: str, data: Path | None, home: Path, progress: Progress | None = None
) -> tuple[Material, dict[str, SelectionReport]]:
    """Everything that the recipe learns from, in numbers; and what was left out of each source.

    Raises:
        TrainingError: too few pairs are left.
        TextLeak: an examined text is among what would be learned from; nothing is trained then.
    """
    show = progress or (lambda _stage, _done, _total: None)
    texts, sets, reports = Texts(), list[PairSet](), dict[str, SelectionReport]()
    for name, weight in recipe.sources.items():
        chosen = chosen_of(name, ground, recipe, data)
        reports[name] = chosen.report
        if weight and chosen.pairs:
            sets.append(numbered_pairs(name, chosen.pairs, texts, recipe.context_turns, weight))
    found = len(sets[0].triggers) if sets else 0
    if found < LEAST_PAIRS:
        raise TrainingError(
            f"{found} pairs are left to learn from, and {LEAST_PAIRS} are needed", "Ingest a longer history"
        )
    records = training_records(_folder(data), ground.held_out) if recipe.objectives.records else []
    sentences = training_sentences(_folder(data), ground.held_out) if recipe.objectives.sentences else []
    material = assembled(
        texts,
        sets,
        records,
        sentences,
        parent=load_encoder(parent, home=home, precision="int8", cache=0),
        reference=load_encoder(REFERENCE, home=home, precision="int8", cache=0),
        max_tokens=recipe.max_tokens,
        held_out=ground.held_out,
        progress=lambda done, total: show("embed", done, total),
    )
    if recipe.objectives.triplets:
        material = replace(material, pairs=tuple(_with_triplets(one, material) for one in material.pairs))
    return material, reports


def train_pairs(
    name: str,
    recipe: Recipe,
    *,
    parent: str = DEFAULT_MODEL,
    data: Path | None = None,
    home: str | Path | None = None,
    device: str = "auto",
    resume: bool = False,
    classified: bool = True,
    progress: Progress | None = None,
) -> Trained:
    """Train a model on pairs, examine it beside its parent, and judge it. It is kept whatever the verdict.

    Args:
        name: what the new model is called; a model of that name that was trained before is replaced.
        data: folder of the public files that recipe and exam need; see docs/exam.md.
        device: ``cpu``, ``cuda``, ``mps``, or ``auto`` for the best that is there.
        resume: go on with the run of that name that was broken off.

    Raises:
        TrainingError: torch is missing, or there is too little to learn from.
        InputError: the name belongs to another model.
        TextLeak: an examined text is in the training data.
        HomeLocked: a run of that name is going on.
    """
    require_torch()
    from .looks import watch_of
    from .runner import run

    root, show = home_folder(home), progress or (lambda _stage, _done, _total: None)
    folder = _own_folder(name, root)
    with locked(model_home(name, root) / "training.lock", f"the training of {name}"):
        ground = stand(recipe, data, root)
        material, selections = gather(ground, recipe, parent, data, root, show)
        begun = find_model(parent, root)
        checksum = material_checksum(material.texts, material.pairs)
        encoder = load_encoder(parent, home=root, precision="int8", cache=0)
        network = _network(begun, recipe, device, material.reference.shape[1])
        watch = watch_of(ground.examined, encoder.tokens, load_encoder(REFERENCE, home=root, precision="int8", cache=0))
        checkpoints = model_home(name, root) / "training"
        report = run(
            network,
            material,
            recipe,
            folder=checkpoints,
            identity=f"{checksum} {recipe.model_dump_json()} {parent}",
            watch=watch,
            resume=resume,
            progress=show,
        )
        from .network import save_network

        lineage = Lineage(
            parent=parent,
            parent_fingerprint=encoder.fingerprint,
            kind="pairs",
            recipe=recipe.model_dump(mode="json"),
            data=checksum,
            weights="",  # no weights are examined yet
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            selection={source: asdict(one) for source, one in selections.items()},
            run=asdict(report),
        )
        remove_folder(checkpoints)  # with what a write that was killed has left
        remove_folder(folder)
        write_lineage(folder, lineage)  # first of all: without it the model would count as one that needs no exam
        save_network(network, begun, folder)
        add_model(name, folder, root)
        if report.steps and _finished(network, material, recipe, name, root, watch, show):
            save_network(network, begun, folder)
        exam, verdict = examine(name, home=root, data=data, ground=ground, classified=classified, progress=show)
    return Trained(name, folder, report, selections, exam, verdict)


def examine(
    name: str,
    *,
    home: Path,
    data: Path | None = None,
    ground: Ground | None = None,
    classified: bool = True,
    progress: Progress | None = None,
) -> tuple[Exam, Verdict]:
    """Examine a trained model beside its parent and write the verdict down, upon which ``use`` relies.

    Raises:
        ModelError: it was not trained here.
    """
    model = find_model(name, home)
    lineage = read_lineage(model.folder)
    if lineage is None:
        raise ModelError(f"{name} was not trained here", f"Examine it: jarvis-embed exam {name}")
    recipe = Recipe.model_validate(lineage.recipe)
    ground = ground or stand(recipe, data, home)
    exam = run_exam(
        name,
        ground.sides,
        source=ground.source,
        data=data,
        home=home,
        parent=lineage.parent,
        timed=False,
        classified=classified,
        seed=recipe.seed,
        progress=progress,
    )
    store_exam(exam, home)
    verdict = judge(exam, recipe.gate)
    figures = {row.key: row.value for row in exam.metrics if row.value is not None}
    weights = weights_checksum(model.folder)
    write_lineage(model.folder, replace(lineage, exam=figures, verdict=verdict, weights=weights))
    return exam, verdict


def require_torch() -> None:
    """Raise the error that says what to install.

    Raises:
        TrainingError: torch or transformers is missing.
    """
    missing = [name for name in ("torch", "transformers") if importlib.util.find_spec(name) is None]
    if missing:
        raise TrainingError(f"training needs {' and '.join(missing)}", "Install it: pip install 'jarvis-embed[train]'")


def _network(parent: ModelFolder, recipe: Recipe, device: str, answer_dim: int) -> Network:
    import torch

    from .network import Network

    torch.manual_seed(recipe.seed)
    place = _device(device)
    network = Network(
        parent,
        context_turns=recipe.context_turns,
        width=recipe.width,
        answer_dim=answer_dim,
        frozen_layers=recipe.frozen_layers,
        dropout=recipe.dropout,
        bf16=place == "cuda" or (place == "cpu" and torch.ops.mkldnn._is_mkldnn_bf16_supported()),
    )
    return network.to(place)


def _finished(
    network: Network, material: Material, recipe: Recipe, name: str, home: Path, watch: Watch, show: Progress
) -> bool:
    """Let the projections learn once more, on the trained encoder's vectors; whether that was worth it. If it was not,
    they are as they were."""
    import torch

    from .maps import learn_projections, learn_segments

    encoder = load_encoder(name, home=home, precision="int8", cache=0)
    vectors = encoder.embed(material.texts, lambda done, total: show("embed again", done, total))
    kept = {name: value.clone() for name, value in network.state_dict().items() if not name.startswith("bert.")}
    with torch.no_grad():
        before = watch(network)
    halves = vectors.astype(np.float16)
    learn_projections(network, material, halves, recipe, show, "finish")
    learn_segments(network, material, halves, recipe, show, "finish threads")
    with torch.no_grad():
        after = watch(network)
    if sum(after.values()) > sum(before.values()):
        return True
    network.load_state_dict(kept, strict=False)
    return False


def _device(wanted: str) -> str:
    import torch

    if wanted != "auto":
        return wanted
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _with_triplets(pairs: PairSet, material: Material) -> PairSet:
    triggers, responses = material.parent[pairs.triggers], material.reference[pairs.responses]
    mined = mine_triplets(triggers.astype(np.float32), responses.astype(np.float32), material.near[pairs.triggers])
    return replace(pairs, triplets=pairs.triggers[mined])


def chosen_of(source: Source, ground: Ground, recipe: Recipe, data: Path | None) -> Selection:
    """The pairs of a source that a run learns from, and the report of what was left out."""
    conversations = _conversations(source, ground, data)
    return chosen_pairs(conversations, ground.held_out, recipe.pairs, recipe.seed, recipe.min_quality)


def _conversations(source: Source, ground: Ground, data: Path | None) -> Iterable[Conversation]:
    if source in ("own", "chitchat"):
        return ground.sides.train
    if source == "dailydialog":
        return dailydialog_conversations(_folder(data), ground.examined.replies or ())
    return samsum_conversations(_folder(data))


def _folder(data: Path | None) -> Path:
    if data is None:
        raise SourceError("the recipe needs public data files", "Give their folder: --data DIR")
    return data


def _own_folder(name: str, home: Path) -> Path:
    """Where the model of that name is kept, if the name is free or one that was trained before.

    Raises:
        InputError: the name belongs to a model that was not trained here.
    """
    folder = pulled_folder(name, home)
    elsewhere = load_settings(home).folders.get(name, folder) != folder
    if name in REGISTRY or elsewhere or (folder.is_dir() and read_lineage(folder) is None):
        raise InputError(f"{name} is another model's name", "Choose another one with --name")
    return folder
