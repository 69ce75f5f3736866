"""The doctor tells apart what a user must treat differently, and says the next step for each."""

from __future__ import annotations

import errno
import json
import os
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import apple
import jarvis_embed as je
import tiny
from jarvis_embed.cli import app
from jarvis_embed.config import load_settings, save_settings
from jarvis_embed.doctor import Finding, examine
from jarvis_embed.models.encoder import Encoder
from jarvis_embed.models.store import add_model, model_home
from jarvis_embed.sources import database
from jarvis_embed.sources.access import application_of, responsible_program
from jarvis_embed.spaces.generations import current_folder


@pytest.fixture
def whole(home: Path, history: Path, tiny_folder: Path) -> Path:
    """A home in which all is well."""
    home.mkdir()
    save_settings(home, load_settings(home).model_copy(update={"precision": "fp32", "model": "tiny"}))
    add_model("tiny", tiny_folder, home)
    with je.Library.open(home) as library:
        library.ingest(je.sources.open(history))
    je.build(je.load_encoder(home=home), home)
    return home


def broken(home: Path) -> list[Finding]:
    return [finding for finding in examine(home).findings if finding.verdict == "broken"]


def only(findings: list[Finding]) -> Finding:
    (finding,) = findings
    return finding


def test_a_whole_home_has_nothing_broken_and_says_what_it_covers(whole: Path, history: Path) -> None:
    found = examine(whole)
    assert found.healthy
    assert {finding.verdict for finding in found.findings} == {"good"}
    (known,) = found.coverage
    assert (known.kind, known.location, known.conversations, known.messages) == ("jsonl", str(history), 3, 200)
    assert (known.first_ms, known.last_ms) == (1_700_000_000_000, 1_700_000_000_000 + 199 * 60_000)


def test_an_empty_home_is_told_how_to_begin(home: Path, tiny_folder: Path) -> None:
    home.mkdir()
    add_model("tiny", tiny_folder, home)
    save_settings(home, load_settings(home).model_copy(update={"precision": "fp32", "model": "tiny"}))
    steps = {finding.area: finding.next_step for finding in examine(home).findings}
    assert "jarvis-embed ingest" in steps["library"]
    assert "jarvis-embed build" in steps["space"]
    assert not broken(home)


def test_files_that_others_can_read_are_found_and_closed(whole: Path) -> None:
    library = whole / "embeddings" / "library.db"
    library.chmod(0o644)
    (whole / "embeddings" / "tiny").chmod(0o755)
    finding = only(broken(whole))
    assert "2 files and folders" in finding.said
    assert "doctor --fix" in finding.next_step
    assert examine(whole, fix=True).healthy
    assert library.stat().st_mode & 0o777 == 0o600
    assert not broken(whole)


def test_broken_settings_are_named_by_line(whole: Path) -> None:
    (whole / "config.json").write_text("{broken")
    assert "line 1, column 2" in broken(whole)[0].said


def test_a_damaged_library_is_found(whole: Path) -> None:
    library = whole / "embeddings" / "library.db"
    content = bytearray(library.read_bytes())
    content[8192:] = os.urandom(len(content) - 8192)
    library.write_bytes(content)
    (library.with_name("library.db-wal")).unlink(missing_ok=True)
    assert "not a whole library" in broken(whole)[0].said


def test_missing_weights_are_found_with_the_ways_to_get_them(whole: Path) -> None:
    save_settings(whole, load_settings(whole).model_copy(update={"model": "gte-tiny"}))
    assert "models pull gte-tiny" in only(broken(whole)).next_step


def test_a_damaged_space_is_found(whole: Path) -> None:
    folder = current_folder(model_home("tiny", whole))
    assert folder is not None
    (folder / "index.safetensors").write_bytes(b"short")
    assert "build" in only(broken(whole)).next_step


def test_a_space_behind_the_library_is_a_note_and_one_with_removed_texts_is_broken(whole: Path, history: Path) -> None:
    lines = history.read_text().splitlines()
    for content, verdict, said in (
        ([*lines, lines[-1].replace('"199"', '"200"')], "note", "before the messages changed"),
        (lines[:-10], "broken", "removed or edited"),
    ):
        history.write_text("\n".join(content))
        with je.Library.open(whole) as library:
            library.ingest(je.sources.open(history))
        (finding,) = [finding for finding in examine(whole).findings if finding.area == "space"]
        assert (finding.verdict, "jarvis-embed build tiny" in finding.next_step) == (verdict, True)
        assert said in finding.said
    je.build(je.load_encoder(home=whole), whole)
    assert examine(whole).healthy


def test_a_build_that_was_broken_off_is_a_note(whole: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("jarvis_embed.spaces.build.write_artifact", die)
        with pytest.raises(KeyboardInterrupt):
            je.build(je.load_encoder(home=whole), whole, force=True)
    assert "broken off" in next(f.said for f in examine(whole).findings if f.verdict == "note")


def test_a_history_without_an_answer_of_the_owner_is_explained(whole: Path, history: Path) -> None:
    with je.Library.open(whole) as library:
        library.ingest(je.sources.open(history, me="Nobody"))
    assert "--me" in next(f.next_step for f in broken(whole) if f.area == "library")


def test_a_space_of_another_version_of_the_model_is_found(whole: Path, tmp_path: Path) -> None:
    add_model("tiny", tiny.write_model(tmp_path / "other", seed=1), whole)
    assert "another version" in only([f for f in broken(whole) if f.area == "space"]).said


def test_a_source_that_was_deleted_after_reading_is_a_note(whole: Path, history: Path) -> None:
    history.unlink()
    assert [f.verdict for f in examine(whole).findings if f.area == "source"] == ["note"]


def test_a_full_disk_is_found(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage(10, 9, 1000))
    assert "free some space" in only(broken(whole)).next_step


class TestMessages:
    """The doctor of a ``chat.db`` that was ingested: why it cannot be read now, or how much of it can."""

    @pytest.fixture
    def made(self, whole: Path, tmp_path: Path) -> Iterator[apple.ChatDb]:
        made = apple.ChatDb(tmp_path / "chat.db")
        anna = made.handle("+15550001")
        chat = made.chat("+15550001", anna)
        for number in range(6):
            made.say(chat, f"message {number}", (anna, None)[number % 2])
        made.say(chat, None, anna, attributedBody=apple.body("from a body"))
        made.say(chat, None, anna, attributedBody=b"secret bytes")
        made.say(chat, "of no time", date=None)
        made.tapback(chat, 1, 2000)
        made.say(chat, None, item_type=2)
        with je.Library.open(whole) as library:
            library.ingest(je.sources.open(made.path))
        yield made
        made.close()

    @staticmethod
    def finding(home: Path) -> Finding:
        return only([f for f in examine(home).findings if f.area == "source" and "chat.db" in f.said])

    def test_it_is_covered_cause_by_cause(self, made: apple.ChatDb, whole: Path) -> None:
        finding = self.finding(whole)
        assert finding.verdict == "good"
        assert finding.said == (
            f"{made.path}: 7 messages; text from `text` 6, from `attributedBody` 1; "
            "not readable 2: attributedBody not readable 1, no usable time 1; "
            "left out on purpose 1: system row 1"
        )

    def test_missing(self, made: apple.ChatDb, whole: Path) -> None:
        made.path.unlink()
        finding = self.finding(whole)
        assert (finding.verdict, "there is no file" in finding.said) == ("note", True)

    def test_not_permitted(self, made: apple.ChatDb, whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The program to authorise is named."""
        read = Path.open

        def refuse(path: Path, *arguments: Any, **named: Any) -> Any:
            if path == made.path:
                raise PermissionError(errno.EPERM, "Operation not permitted")
            return read(path, *arguments, **named)

        monkeypatch.setattr(Path, "open", refuse)
        monkeypatch.setattr("sys.platform", "darwin")
        monkeypatch.setattr("jarvis_embed.doctor.MESSAGES", made.path)
        monkeypatch.setattr("jarvis_embed.sources.access.running_processes", dict)
        monkeypatch.setenv("TERM_PROGRAM", "Apple_Terminal")
        finding = self.finding(whole)
        assert (finding.verdict, "does not let this program read" in finding.said) == ("broken", True)
        assert "Full Disk Access → switch on Terminal" in finding.next_step

    def test_locked(self, made: apple.ChatDb, whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(database, "_BUSY_SECONDS", 0.05)
        made.db.execute("PRAGMA journal_mode = DELETE")
        made.db.execute("BEGIN EXCLUSIVE")
        assert "locked by another program" in self.finding(whole).said

    def test_not_a_database(self, made: apple.ChatDb, whole: Path) -> None:
        made.path.write_text("my diary")
        assert "is not a database" in self.finding(whole).said

    def test_damaged(self, made: apple.ChatDb, whole: Path) -> None:
        made.db.execute("PRAGMA journal_mode = DELETE")
        made.path.write_bytes(made.path.read_bytes()[:5000])
        finding = self.finding(whole)
        assert (finding.verdict, "is damaged" in finding.said) == ("broken", True)

    def test_not_a_database_of_messages(self, made: apple.ChatDb, whole: Path) -> None:
        made.db.execute("DROP TABLE chat_handle_join")
        assert "is not a database of Messages" in self.finding(whole).said

    def test_a_schema_that_is_not_known(self, made: apple.ChatDb, whole: Path) -> None:
        made.db.execute("ALTER TABLE message RENAME COLUMN date TO moment")
        finding = self.finding(whole)
        assert "message lacks date" in finding.said
        assert finding.next_step == "Upgrade jarvis-embed"


class TestResponsibleProgram:
    """The application that macOS asks about."""

    def test_the_application_is_the_outermost_of_the_programs_above_us(self) -> None:
        processes = {
            1: (0, "/sbin/launchd"),
            40: (1, "/Applications/iTerm.app/Contents/MacOS/iTerm2"),
            41: (40, "/Applications/iTerm.app/Contents/Helper.app/Contents/MacOS/helper"),
            50: (41, "-zsh"),
            60: (50, "/usr/bin/python3"),
        }
        assert application_of(60, processes) == "iTerm"
        assert application_of(1, processes) is None
        assert application_of(7, {7: (7, "loop")}) is None

    def test_without_an_application_above_us_the_terminal_is_told_by_its_name(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("jarvis_embed.sources.access.running_processes", dict)
        assert responsible_program({"TERM_PROGRAM": "iTerm.app"}) == "iTerm"
        assert responsible_program({"TERM_PROGRAM": "NewTerm"}) == "NewTerm"
        assert "your terminal" in responsible_program({})


def test_the_command_for_people_and_for_machines(whole: Path) -> None:
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 0
    assert "200 messages in 3 conversations, 2023-11-14 to 2023-11-15" in result.output
    (whole / "embeddings" / "library.db").chmod(0o644)
    result = CliRunner().invoke(app, ["doctor", "--json"])
    assert result.exit_code == 1
    told = json.loads(result.stdout)
    assert told["healthy"] is False
    assert [f["next_step"] for f in told["findings"] if f["verdict"] == "broken"] == [
        "Close them: jarvis-embed doctor --fix"
    ]
    assert CliRunner().invoke(app, ["doctor", "--fix"]).exit_code == 0
