"""From conversations to a trained model that was examined: gather, learn, save, examine, judge."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from ..config import DEFAULT_MODEL, load_settings
from ..conversations.selection import SelectionReport
from ..errors import InputError, ModelError
from ..evaluation.exam import REFERENCE, run_exam
from ..evaluation.exam_record import Exam, store_exam
from ..evaluation.gate import judge
from ..home import home_folder, locked, make_private_folder, remove_folder, reported
from ..models.compiled import fingerprints
from ..models.encoder import load_encoder
from ..models.lineage import Lineage, Verdict, read_lineage, weights_checksum, write_lineage
from ..models.projections import read_projections
from ..models.quality_head import write_head
from ..models.registry import REGISTRY
from ..models.store import add_model, find_model, model_home, pulled_folder
from .ground import Ground, Progress, gather, require_torch, stand
from .material import Material, material_checksum
from .recipe import Objectives, Recipe
from .texts import Halves

if TYPE_CHECKING:
    from .network import Network
    from .runner import RunReport, Watch


@dataclass(frozen=True, slots=True)
class Trained:
    """A trained model and what its exam said."""

    name: str
    folder: Path
    run: RunReport
    selections: Mapping[str, SelectionReport]
    exam: Exam
    verdict: Verdict


def train_model(
    name: str,
    recipe: Recipe,
    *,
    stages: Mapping[str, Recipe] | None = None,
    parent: str = DEFAULT_MODEL,
    data: Path | None = None,
    home: str | Path | None = None,
    device: str = "auto",
    resume: bool = False,
    classified: bool = True,
    progress: Progress | None = None,
) -> Trained:
    """Train a model by a recipe, examine it beside its parent, and judge it. It is kept whatever the verdict.

    Args:
        name: what the new model is called; a model of that name that was trained before is replaced.
        stages: recipes for the same history that come before: by the one at ``begun``, ``NAME-begun`` is trained, from
            which the next goes on, and from the last one ``name``. What is examined is ``name``, beside ``parent``.
        data: folder of the public files that recipe and exam need; see docs/exam.md.
        device: ``cpu``, ``cuda``, ``mps``, or ``auto`` for the best that is there.
        resume: go on with the run of that name that was broken off; stages that are whole are not trained again, and
            one that made ``name`` itself is kept as that stage.

    Raises:
        TrainingError: torch is missing, or there is too little to learn from.
        InputError: the name belongs to another model.
        TextLeak: an examined text is in the training data.
        HomeLocked: a run of that name is going on.
    """
    require_torch()
    root, show = home_folder(home), progress or (lambda _stage, _done, _total: None)
    with locked(model_home(name, root) / "training.lock", f"the training of {name}"):
        before = {f"{name}-{part}": one for part, one in (stages or {}).items()}
        for one in (name, *before):
            _require_free(one, root)
        ground, begun = stand(recipe, data, root), parent
        for stage, wanted in before.items():
            if resume and _is_whole(stage, wanted, begun, root):
                pass  # it is not trained again
            elif resume and _is_whole(name, wanted, begun, root):
                _keep_as(stage, name, root)
            else:
                goes_on = resume and (begun == parent or _has_checkpoint(stage, root))
                _learn(stage, wanted, begun, ground, data, root, device, goes_on, show)
                resume = False
            begun = stage
        goes_on = resume and (begun == parent or _has_checkpoint(name, root))
        beside = parent if before else ""
        report, selections = _learn(name, recipe, begun, ground, data, root, device, goes_on, show, beside)
        exam, verdict = examine(name, home=root, data=data, ground=ground, classified=classified, progress=show)
    return Trained(name, pulled_folder(name, root), report, selections, exam, verdict)


def _learn(
    name: str,
    recipe: Recipe,
    parent: str,
    ground: Ground,
    data: Path | None,
    root: Path,
    device: str,
    resume: bool,
    show: Progress,
    beside: str = "",
) -> tuple[RunReport, Mapping[str, SelectionReport]]:
    """Train a model and keep it; it is not examined yet."""
    from .looks import watch_of
    from .maps import draw_back, weights_of
    from .network import network_of, save_network
    from .runner import run

    folder = pulled_folder(name, root)
    material, selections = gather(ground, recipe, parent, data, root, show)
    begun = find_model(parent, root)
    checksum = material_checksum(material.texts, material.pairs)
    encoder = load_encoder(parent, home=root, precision="int8", cache=0)
    network = network_of(begun, recipe, material.reference.shape[1], _device(device))
    watch = watch_of(
        ground.examined,
        encoder.tokens,
        load_encoder(REFERENCE, home=root, precision="int8", cache=0),
        threads=bool(recipe.objectives.threads),
    )
    checkpoints, before = _checkpoints(name, root), weights_of(network.bert)
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
    draw_back(network.bert, before, recipe.kept_change)
    lineage = Lineage(
        parent=parent,
        parent_fingerprint=encoder.fingerprint,
        kind=_kind(recipe.objectives),
        recipe=recipe.model_dump(mode="json"),
        data=checksum,
        weights="",  # they are not whole yet
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        selection={source: asdict(one) for source, one in selections.items()},
        run=asdict(report),
        beside=beside,
    )
    remove_folder(checkpoints)  # with what a write that was killed has left
    remove_folder(folder)
    write_lineage(folder, lineage)  # first of all: without it the model would count as one that needs no exam
    save_network(network, begun, folder)
    add_model(name, folder, root)
    vectors, has_head = material.parent, recipe.objectives.quality and recipe.head_steps
    if report.steps and (recipe.projection_passes or has_head):
        encoder = load_encoder(name, home=root, precision="int8", cache=0)
        vectors = encoder.embed(material.texts, lambda done, total: show("embed again", done, total)).astype(np.float16)
        if recipe.projection_passes:
            _settle(network, material, recipe, vectors, watch, show)
    if recipe.objectives.threads and recipe.segment_map_passes:
        _complete_segments(network, material, recipe, vectors, show)
    if recipe.objectives.threads or recipe.projection_passes:
        save_network(network, begun, folder)
    if has_head:
        _give_head(network, material, recipe, vectors, name, root, show)
    write_lineage(folder, replace(lineage, weights=weights_checksum(folder)))
    return report, selections


def _checkpoints(name: str, home: Path) -> Path:
    """Where a run of that name leaves what it can be gone on with from."""
    return model_home(name, home) / "training"


def _has_checkpoint(name: str, home: Path) -> bool:
    from .runner import CHECKPOINT_FILE

    return (_checkpoints(name, home) / CHECKPOINT_FILE).is_file()


def _is_whole(name: str, recipe: Recipe, parent: str, home: Path) -> bool:
    """Whether the model of that name is what this recipe makes of its parent, and nothing of it is missing."""
    folder = pulled_folder(name, home)
    lineage = read_lineage(folder)
    if lineage is None or lineage.parent != parent or Recipe.model_validate(lineage.recipe) != recipe:
        return False
    return bool(lineage.weights) and lineage.weights == weights_checksum(folder)


def _keep_as(stage: str, name: str, home: Path) -> None:
    """Keep the model of that name as what a stage made, before it is replaced by what goes on from there."""
    folder = pulled_folder(stage, home)
    remove_folder(folder)
    make_private_folder(folder.parent)
    with reported(folder):
        shutil.copytree(pulled_folder(name, home), folder)
    add_model(stage, folder, home)


def examine(
    name: str,
    *,
    home: Path,
    data: Path | None = None,
    ground: Ground | None = None,
    classified: bool = True,
    progress: Progress | None = None,
) -> tuple[Exam, Verdict]:
    """Examine a trained model beside the one it began as, and write the verdict down, upon which ``use`` relies.

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
        parent=lineage.examined_beside,
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


def _settle(
    network: Network, material: Material, recipe: Recipe, vectors: Halves, watch: Watch, show: Progress
) -> None:
    """Let the projections learn once more, on the trained encoder's vectors; if that was not worth it, they are as they
    were."""
    import torch

    from .maps import learn_projections, learn_segments

    kept = {name: value.clone() for name, value in network.state_dict().items() if not name.startswith("bert.")}
    with torch.no_grad():
        before = watch(network)
    learn_projections(network, material, vectors, recipe, recipe.projection_passes, show, "finish")
    learn_segments(network, material, vectors, recipe, recipe.segment_map_passes, show, "finish threads")
    with torch.no_grad():
        after = watch(network)
    if sum(after.values()) <= sum(before.values()):
        network.load_state_dict(kept, strict=False)


def _complete_segments(network: Network, material: Material, recipe: Recipe, vectors: Halves, show: Progress) -> None:
    """Give segments what is not learned by steps: their words, beside which their map learns once more, and prototypes;
    what the parent had of these is gone."""
    from .maps import learn_beside_words, prototypes_among, words_beside

    words, network.words, network.prototypes = network.words, None, None
    if recipe.words:
        network.words = words_beside(network, material, vectors) or words
        learn_beside_words(network, material, vectors, recipe, show, "finish words")
    if recipe.prototypes and material.segments is not None:
        sources = [number for number, name in enumerate(recipe.cut) if name in recipe.prototypes]
        network.prototypes = prototypes_among(network, material.segments, vectors, sources, recipe.pull)


def _give_head(
    network: Network, material: Material, recipe: Recipe, vectors: Halves, name: str, home: Path, show: Progress
) -> None:
    """Let the quality head go on learning on the vectors that the model gives now, and keep it beside the weights."""
    from .quality_head import HeadRecipe, fit_head, head_over
    from .quality_material import of_trained

    model = find_model(name, home)
    learning = HeadRecipe(steps=recipe.head_steps, width=recipe.width, seed=recipe.seed)
    facts = {"steps": learning.steps, "trained_with": name}
    known, dim = of_trained(material, vectors), model.config.hidden
    begin = head_over(read_projections(model.folder, dim), dim, learning)
    if begin is not None and network.quality is not None:
        begin.load_state_dict(network.quality.state_dict(), strict=False)  # that has no maps of its own
    write_head(model.folder, fit_head(known, fingerprints(model), learning, facts=facts, begin=begin, progress=show))


def _kind(objectives: Objectives) -> Literal["pairs", "threads", "labels", "multitask"]:
    """What a run is called by what it asks for."""
    if objectives.quality:
        return "multitask"
    if objectives.single or objectives.context or objectives.relation:
        return "pairs"
    return "threads" if objectives.threads else "labels"


def _device(wanted: str) -> str:
    import torch

    if wanted != "auto":
        return wanted
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _require_free(name: str, home: Path) -> None:
    """Let a name through that no model has, or one that was trained before.

    Raises:
        InputError: the name belongs to a model that was not trained here.
    """
    folder = pulled_folder(name, home)
    elsewhere = load_settings(home).folders.get(name, folder) != folder
    if name in REGISTRY or elsewhere or (folder.is_dir() and read_lineage(folder) is None):
        raise InputError(f"{name} is another model's name", "Choose another one with --name")
