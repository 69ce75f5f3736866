"""The command line: what a user reads, what a machine reads, and the exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import tiny
from jarvis_embed.cli import app
from jarvis_embed.cli.output import progress_lines
from jarvis_embed.config import load_settings, save_settings


def run(*arguments: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "jarvis_embed", *arguments], capture_output=True, text=True, check=False, input=given
    )


@pytest.fixture
def ready(home: Path, history: Path, tiny_folder: Path) -> None:
    """The main job done with the tiny model, by commands only."""
    home.mkdir()
    save_settings(home, load_settings(home).model_copy(update={"precision": "fp32"}))
    for command in (
        ["ingest", str(history)],
        ["models", "add", "tiny", str(tiny_folder)],
        ["build", "tiny"],
        ["use", "tiny"],
    ):
        result = CliRunner().invoke(app, command, catch_exceptions=False)
        assert result.exit_code == 0, result.output


COMMANDS = [
    "demo",
    "ingest",
    "build",
    "use",
    "rollback",
    "suggest",
    "search",
    "classify",
    "exam",
    "compare",
    "report",
    "bench",
    "watch",
    "doctor",
    "purge",
    "models",
]


@pytest.mark.parametrize(
    "command",
    [
        *COMMANDS,
        *(f"models {name}" for name in ("list", "pull", "add", "remove", "tune")),
        *(f"labels {name}" for name in ("list", "import", "clear", "agreement")),
        *(f"threads {name}" for name in ("show", "measure")),
        "train heads",
    ],
)
def test_every_command_has_help(command: str) -> None:
    result = CliRunner().invoke(app, [*command.split(), "--help"])
    assert result.exit_code == 0
    assert "--home" in result.output
    assert "--json" in result.output


@pytest.mark.usefixtures("ready")
def test_a_suggestion_for_a_person() -> None:
    known = json.loads(run("search", "lunch?", "-k", "1", "--json").stdout)["matches"][0]["pair"]["trigger"]
    done = run("suggest", known, "--context", "hey", "-k", "2")
    assert done.returncode == 0
    assert done.stdout.startswith("1. ")
    for word in ("cosine", "embed", "search", "rank", "total", "ms"):
        assert word in done.stdout


@pytest.mark.usefixtures("ready")
def test_every_result_for_a_machine(history: Path) -> None:
    matches = json.loads(run("search", "lunch?", "-k", "2", "--json").stdout)["matches"]
    assert len(matches) == 2
    known = matches[0]["pair"]["trigger"]
    suggestion = json.loads(run("suggest", known, "--json").stdout)
    assert {"replies", "trigger_label", "timings"} <= set(suggestion)
    assert suggestion["replies"][0]["pair"]["response"] == suggestion["replies"][0]["text"]
    ingested = json.loads(run("ingest", str(history), "--json").stdout)
    assert (ingested["report"]["read"], ingested["report"]["new"]) == (200, 0)
    assert json.loads(run("build", "--json").stdout)["up_to_date"] is True
    models = {model["name"]: model for model in json.loads(run("models", "--json").stdout)["models"]}
    assert models["tiny"]["in_use"] is True
    assert models["gte-tiny"]["folder"] is None


@pytest.mark.usefixtures("ready")
def test_a_message_from_standard_input() -> None:
    assert run("search", "-", given="lunch?").returncode == 0


@pytest.mark.usefixtures("ready")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["suggest", "  "], "the text is empty"),
        (["use", "gte-tiny"], "jarvis-embed models pull gte-tiny"),
        (["use", "gte-tyni"], "Did you mean gte-tiny"),
        (["ingest", "nowhere.jsonl"], "there is no file"),
        (["models", "add", "x", "nowhere"], "is not a folder"),
        (["suggest", "hey", "--model", "tinyy"], "Did you mean tiny?"),
    ],
)
def test_an_error_is_one_line_with_the_next_step(arguments: list[str], said: str) -> None:
    done = run(*arguments)
    assert done.returncode == 1
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr
    described = json.loads(run(*arguments, "--json").stdout)
    assert said in described["problem"] + described["next_step"]


@pytest.mark.parametrize(
    "arguments", [["suggest"], ["nonsense"], ["build", "--precision", "fp8"], ["purge"], ["search", "hey", "-k", "0"]]
)
def test_a_command_that_is_not_understood_ends_with_2(arguments: list[str]) -> None:
    assert run(*arguments).returncode == 2


def test_a_table_is_read_by_the_columns_that_are_named(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("When;Who;What\n05/06/2023 10:00;Anna;hey\n05/06/2023 10:01;Robin;hi\n")
    columns = ["--as", "csv", "--map", "time=When", "--map", "sender=Who", "--map", "text=What"]
    assert "--dates dmy" in run("ingest", str(table), *columns).stderr
    done = run("ingest", str(table), *columns, "--dates", "dmy", "--zone", "Europe/Berlin", "--me", "Robin", "--json")
    assert json.loads(done.stdout)["library"]["pairs"] == 1
    assert run("ingest", str(table), "--map", "time").returncode == 2
    assert run("ingest", str(table), "--dates", "dym").returncode == 2


@pytest.mark.usefixtures("ready")
def test_switching_and_back(home: Path, tmp_path: Path) -> None:
    tiny.write_model(tmp_path / "other", seed=1)
    assert run("models", "add", "other", str(tmp_path / "other")).returncode == 0
    assert "Next: jarvis-embed use other" in run("build", "other").stdout
    assert "other answers now" in run("use", "other").stdout
    assert "Back to model tiny" in run("rollback").stdout
    assert load_settings(home).model == "tiny"


def test_a_broken_config_is_named_and_kept(home: Path) -> None:
    home.mkdir()
    (home / "config.json").write_text("{broken")
    done = run("models")
    assert done.returncode == 1
    assert "line 1, column 2" in done.stderr
    assert (home / "config.json").read_text() == "{broken"


def test_a_log_file_gets_a_line_when_a_stage_begins_and_one_every_half_minute() -> None:
    lines: list[str] = []
    now = 0.0
    show = progress_lines(lines.append, clock=lambda: now)
    for second in range(101):
        now = float(second)
        show("embed", 20 * second, 10_000)
    show("check", 0, 0)
    assert lines == [
        "embed: 0 of 10,000",
        "embed: 600 of 10,000, 7 min 50 s left",
        "embed: 1,200 of 10,000, 7 min 20 s left",
        "embed: 1,800 of 10,000, 6 min 50 s left",
        "check: begun",
    ]


def test_time_left_is_that_of_what_this_run_did() -> None:
    lines: list[str] = []
    now = 0.0
    show = progress_lines(lines.append, clock=lambda: now)
    show("embed", 9_000, 10_000)  # done by the run before this one
    now = 40.0
    show("embed", 9_100, 10_000)
    assert lines[-1] == "embed: 9,100 of 10,000, 6 min 0 s left"


def test_a_stage_that_begins_again_has_times_of_its_own() -> None:
    lines: list[str] = []
    now = 0.0
    show = progress_lines(lines.append, clock=lambda: now)
    show("embed", 0, 10)
    show("embed", 10, 10)
    for now in (1000.0, 1040.0):
        show("embed", 10 * int(now - 1000), 1000)
    assert lines[-2:] == ["embed: 0 of 1,000", "embed: 400 of 1,000, 1 min 0 s left"]


def test_progress_goes_to_the_log_and_results_do_not_mix_with_it(history: Path) -> None:
    done = run("ingest", str(history))
    assert done.stderr.splitlines()[0].startswith("ingest: ")
    assert "ingest: " not in done.stdout
    assert run("ingest", str(history), "--json").stderr == ""
