"""Rule 3: whatever instant a build is killed at, there is a working space afterwards, and the next build goes on."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import jarvis_embed as je
import tiny
from jarvis_embed.models.encoder import Encoder
from jarvis_embed.models.store import model_home
from jarvis_embed.spaces.generations import building_folder

BUILD = (
    "import sys, jarvis_embed as je; from jarvis_embed.spaces import build; build._BLOCK = 8\n"
    "encoder = je.load_encoder(sys.argv[1], precision='fp32'); print('go', flush=True); je.build(encoder, force=True)"
)
KILLS = 24


def start(folder: Path, **options: object) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-c", BUILD, str(folder)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options
    )  # type: ignore[call-overload]
    assert process.stdout is not None
    assert process.stdout.readline() == b"go\n"
    return process


def finish(process: subprocess.Popen[bytes]) -> str:
    _, said = process.communicate()
    return said.decode()


def works(home: Path, encoder: Encoder) -> bool:
    with je.Space.open(home=home, encoder=encoder) as space:
        pair = next(space.library.pairs())
        (match,) = space.search_threads(pair.trigger, k=1)
        return space.search(pair.trigger, k=1)[0].score > 0.999 and len(match.turns) > 1


@pytest.fixture
def built(home: Path, tmp_path: Path, encoder: Encoder) -> Path:
    with je.Library.open(home) as library:
        library.ingest(je.sources.open(tiny.write_history(tmp_path / "long.jsonl", 1500)))
    je.build(encoder, home)
    return home


def test_killed_at_any_instant_a_build_leaves_a_working_space(built: Path, tiny_folder: Path, encoder: Encoder) -> None:
    began = time.perf_counter()
    assert finish(start(tiny_folder)) == ""
    whole = time.perf_counter() - began
    draw = random.Random(4)
    finished = 0
    for _ in range(KILLS):
        process = start(tiny_folder)
        time.sleep(draw.uniform(0, 0.9 * whole))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        finished += process.returncode == 0
        assert works(built, encoder)
    assert finished < KILLS  # the delays do hit running builds
    assert not je.build(encoder, built, force=True).up_to_date
    assert works(built, encoder)
    assert not building_folder(model_home(encoder.name, built)).exists()


@pytest.mark.parametrize(
    "call",
    ["write_artifact", "write_manifest", "check_files", "promote", "TriggerIndex.build", "VectorLog.append"],
)
def test_dying_at_each_step_leaves_a_working_space(
    built: Path, encoder: Encoder, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same, with each step hit for certain."""

    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(f"jarvis_embed.spaces.build.{call}", die)
        with pytest.raises(KeyboardInterrupt):
            je.build(encoder, built, force=True)
        assert works(built, encoder)
    je.build(encoder, built, force=True)
    assert works(built, encoder)


def test_dying_between_the_two_renames_leaves_a_working_space(
    built: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("jarvis_embed.spaces.generations._point", die)
        with pytest.raises(KeyboardInterrupt):
            je.build(encoder, built, force=True)
    assert works(built, encoder)
    je.build(encoder, built, force=True)
    assert works(built, encoder)


def test_a_killed_build_goes_on_where_it_was(
    built: Path, tmp_path: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with je.Library.open(built) as library:
        library.ingest(je.sources.open(tiny.write_history(tmp_path / "more.jsonl", 1200, seed=5)))
    embed = Encoder.embed
    calls: list[int] = []

    def dying(self: Encoder, texts: list[str], *rest: object) -> object:
        calls.append(len(texts))
        if len(calls) == 6:
            raise KeyboardInterrupt
        return embed(self, texts)

    with monkeypatch.context() as patch:
        patch.setattr("jarvis_embed.spaces.build._BLOCK", 50)
        patch.setattr(Encoder, "embed", dying)
        with pytest.raises(KeyboardInterrupt):
            je.build(encoder, built)
    report = je.build(encoder, built)
    assert report.embedded == report.texts - report.reused
    with je.Library.open(built) as library:
        all_new = len({p.trigger for p in library.pairs()} | {p.response for p in library.pairs()})
    assert report.reused >= 5 * 50
    assert report.texts == all_new


def test_a_full_disk_leaves_a_working_space_and_says_what_to_do(
    built: Path, tiny_folder: Path, encoder: Encoder
) -> None:
    """A file-size limit stands for the full disk: the kernel refuses the write in the same place."""
    import resource

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))

    process = start(tiny_folder, preexec_fn=limit)
    said = finish(process)
    assert process.returncode == 1
    assert "no room left on the disk" in said
    assert "Free some space" in said
    assert works(built, encoder)


def test_a_second_builder_is_told_who_builds(built: Path, tiny_folder: Path) -> None:
    process = start(tiny_folder)
    lock = model_home("tiny", built) / "build.lock"
    while lock.read_text() != str(process.pid):
        time.sleep(0.001)
    os.kill(process.pid, signal.SIGSTOP)
    try:
        with pytest.raises(je.JarvisEmbedError, match=rf"locked by process {process.pid}"):
            je.build(je.load_encoder(tiny_folder, precision="fp32"), force=True)
    finally:
        os.kill(process.pid, signal.SIGCONT)
        process.communicate()
