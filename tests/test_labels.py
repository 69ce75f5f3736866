"""Labels: the gold ones of the package, and the user's own."""

from __future__ import annotations

import csv
import json
from collections import Counter
from importlib import resources
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import jarvis_embed as je
from jarvis_embed.cli import app
from jarvis_embed.errors import LabelError
from jarvis_embed.labels.gold import COLUMNS, TurnLabel, agreement, assert_grouped, gold_examples, kappa, read_gold
from jarvis_embed.labels.own import import_labels, own_examples, own_labels
from jarvis_embed.labels.scheme import LABELS, MEANINGS, TASKS
from jarvis_embed.library import Library
from jarvis_embed.sources.chitchat import split_of

DOCS = Path(__file__).parents[1] / "docs"


class TestGold:
    def test_two_thousand_turns_of_each_task_a_quarter_of_them_validation(self) -> None:
        for task in TASKS:
            parts = Counter(split_of(label.conversation) for label in first_readings() if label.task == task)
            assert parts["train"] >= 2000
            assert 0.2 < parts["validation"] / sum(parts.values()) < 0.3

    def test_every_label_has_sixty_examples(self) -> None:
        counts = Counter((label.task, label.label) for label in first_readings())
        assert {key for key, number in counts.items() if number >= 60} == {
            (task, label) for task in TASKS for label in LABELS[task]
        }

    def test_no_sealed_conversation_is_labelled(self) -> None:
        assert {label.conversation[0] for label in read_gold()} <= set("0123456789abcde")

    def test_the_file_holds_ids_and_labels_and_no_text(self) -> None:
        text = resources.files("jarvis_embed.labels").joinpath("labels.csv").read_text(encoding="utf-8")
        rows = list(csv.reader(text.splitlines()))
        assert tuple(rows[0]) == COLUMNS
        known = {label for task in TASKS for label in LABELS[task]}
        for conversation, turn, task, label, reading in rows[1:]:
            assert len(conversation) == 36
            assert turn.isdecimal()
            assert task in TASKS
            assert label in known
            assert reading in "12"

    def test_every_label_names_a_turn_of_the_corpus_and_a_response_its_trigger(self) -> None:
        pytest.importorskip("chitchat_dataset")
        examples = gold_examples("validation")
        assert len(examples) > 1000
        assert all(example.text.strip() for example in examples)
        assert all(bool(example.trigger) == (example.task == "response") for example in examples)
        hello = [e for e in examples if e.task == "trigger" and e.text.lower() in ("hi", "hello", "hey")]
        assert {example.label for example in hello} == {"SOCIAL"}

    def test_four_hundred_turns_were_read_twice_and_agree(self) -> None:
        for one in agreement(read_gold()):
            assert one.n >= 400
            assert one.kappa > 0.9

    @pytest.mark.parametrize(
        ("labels", "complaint"),
        [
            ([TurnLabel("f00", 1, "trigger", "SOCIAL")], "sealed"),
            ([TurnLabel("a00", 1, "trigger", "SOCIAL"), TurnLabel("a00", 1, "trigger", "REACTION")], "two trigger"),
        ],
    )
    def test_what_would_make_a_figure_lie_is_refused(self, labels: list[TurnLabel], complaint: str) -> None:
        with pytest.raises(LabelError, match=complaint):
            assert_grouped(labels)


class TestKappa:
    def test_the_textbook_case(self) -> None:
        """20 + 15 of 50 equal, 25 and 30 yes: observed 0.7, by chance 0.5."""
        first = ["yes"] * 25 + ["no"] * 25
        second = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
        assert kappa(first, second) == pytest.approx(0.4)

    @given(st.lists(st.sampled_from("abc"), min_size=1))
    def test_one_reader_agrees_with_himself(self, labels: list[str]) -> None:
        assert kappa(labels, labels) == 1

    @given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abc")), min_size=2))
    def test_it_is_symmetric_and_at_most_one(self, pairs: list[tuple[str, str]]) -> None:
        first, second = zip(*pairs, strict=True)
        assert kappa(first, second) == pytest.approx(kappa(second, first))
        assert kappa(first, second) <= 1


@pytest.fixture
def library(home: Path, history: Path) -> Library:
    """A library with the conversations anna, ben and cleo, 34 turns each or more."""
    opened = Library.open(home)
    opened.ingest(je.sources.open(history))
    return opened


def rows(tmp_path: Path, *lines: str, name: str = "own.csv") -> Path:
    path = tmp_path / name
    path.write_text("\n".join(lines) + "\n")
    return path


class TestOwn:
    def test_a_turn_is_named_by_its_conversation_and_number(self, library: Library, home: Path, tmp_path: Path) -> None:
        file = rows(tmp_path, "conversation,turn,label", "anna,3,REACTION", "anna,4,DECLINE")
        report = import_labels(file, home, library.turn_texts)
        assert (report.read, report.new, report.bad) == (2, 2, ())
        (trigger, response), gone = own_examples(own_labels(home), library.turn_texts)
        turns = library.turn_texts("anna")[0]
        assert gone == 0
        assert (trigger.task, trigger.text, trigger.label) == ("trigger", turns[3], "REACTION")
        assert (response.task, response.text, response.trigger) == ("response", turns[4], turns[3])

    def test_a_text_can_stand_for_itself(self, library: Library, home: Path, tmp_path: Path) -> None:
        lines = [
            {"text": "wanna come?", "label": "commitment"},
            {"text": "can't", "trigger": "wanna come?", "label": "DECLINE"},
        ]
        file = rows(tmp_path, *map(json.dumps, lines), name="own.jsonl")
        assert import_labels(file, home, library.turn_texts).new == 2
        found, _ = own_examples(own_labels(home), library.turn_texts)
        assert [(e.task, e.text, e.trigger) for e in found] == [
            ("trigger", "wanna come?", ""),
            ("response", "can't", "wanna come?"),
        ]

    def test_each_bad_row_is_named_by_line_and_reason_and_the_good_ones_are_kept(
        self, library: Library, home: Path, tmp_path: Path
    ) -> None:
        file = rows(
            tmp_path,
            "conversation,turn,task,label,text,trigger",
            "anna,3,trigger,REACTION,,",
            "anna,3,trigger,HAPPY,,",
            "anna,999,trigger,SOCIAL,,",
            "dora,1,trigger,SOCIAL,,",
            "anna,x,trigger,SOCIAL,,",
            "anna,3,trigger,,,",
            "anna,3,,QUESTION,,",
            "anna,3,trigger,AGREE,,",
            "anna,0,response,AGREE,,",
            ",,,AGREE,sure,",
            ",,,SOCIAL,,",
        )
        report = import_labels(file, home, library.turn_texts)
        assert (report.read, report.new) == (11, 1)
        reasons = {bad.line: bad.reason for bad in report.bad}
        for line, part in {
            3: "unknown label",
            4: "no turn 999",
            5: "no such conversation",
            6: "no number",
            7: "label is empty",
            8: "of triggers and of responses",
            9: "no trigger label",
            10: "answers nothing",
            11: "needs its trigger",
            12: "nor a text",
        }.items():
            assert part in reasons.pop(line)
        assert not reasons

    def test_importing_again_doubles_nothing_and_a_new_label_replaces_the_old(
        self, library: Library, home: Path, tmp_path: Path
    ) -> None:
        first = rows(tmp_path, "conversation,turn,label", "anna,3,REACTION")
        second = rows(tmp_path, "conversation,turn,label", "anna,3,SOCIAL", name="second.csv")
        reports = [import_labels(file, home, library.turn_texts) for file in (first, first, second)]
        assert [(report.new, report.changed) for report in reports] == [(1, 0), (0, 0), (0, 1)]
        assert [label.label for label in own_labels(home)] == ["SOCIAL"]

    def test_a_label_follows_its_turn_and_goes_with_it(
        self, library: Library, home: Path, tmp_path: Path, history: Path
    ) -> None:
        turns = library.turn_texts("anna")[0]
        unique = next(i for i, text in enumerate(turns) if i > 3 and turns.count(text) == 1)
        file = rows(tmp_path, "conversation,turn,label", f"anna,{unique},REACTION")
        import_labels(file, home, library.turn_texts)
        labels = own_labels(home)
        later = own_examples(labels, lambda _conversation: [["something new", *turns]])
        assert [example.text for example in later[0]] == [turns[unique]]
        assert own_examples(labels, lambda _conversation: [turns[:unique]]) == ([], 1)
        assert own_examples(labels, lambda _conversation: []) == ([], 1)

    def test_no_text_is_stored_for_a_label_by_turn(self, library: Library, home: Path, tmp_path: Path) -> None:
        import_labels(rows(tmp_path, "conversation,turn,label", "anna,3,REACTION"), home, library.turn_texts)
        kept = home / "embeddings" / "labels.jsonl"
        assert library.turn_texts("anna")[0][3] not in kept.read_text()
        assert kept.stat().st_mode & 0o777 == 0o600

    @pytest.mark.parametrize(
        ("lines", "complaint"),
        [
            (["a,b", "1,2"], "columns"),
            (["conversation,turn,label"], "no row"),
            (["text,label", "hey,HAPPY"], "line 2: unknown label"),
            ([""], "columns"),
        ],
    )
    def test_a_file_without_a_good_row_changes_nothing(
        self, library: Library, home: Path, tmp_path: Path, lines: list[str], complaint: str
    ) -> None:
        with pytest.raises(LabelError, match=complaint):
            import_labels(rows(tmp_path, *lines), home, library.turn_texts)
        assert own_labels(home) == []

    def test_a_missing_and_a_binary_file_are_errors(self, library: Library, home: Path, tmp_path: Path) -> None:
        (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00\x9c")
        for name in ("none.csv", "binary.csv"):
            with pytest.raises(LabelError):
                import_labels(tmp_path / name, home, library.turn_texts)


class TestCommands:
    def test_list_shows_each_label_with_its_numbers(self, home: Path) -> None:
        told = json.loads(CliRunner().invoke(app, ["labels", "list", "--json"]).stdout)["labels"]
        assert [(row["task"], row["label"]) for row in told] == [(t, name) for t in TASKS for name in LABELS[t]]
        assert all(row["train"] > 50 for row in told)
        assert "wants information" in CliRunner().invoke(app, ["labels", "list"]).stdout

    def test_agreement_prints_kappa(self, home: Path) -> None:
        shown = CliRunner().invoke(app, ["labels", "agreement"]).stdout
        assert "trigger  420 turns read twice" in shown
        assert "κ 0.9" in shown

    def test_import_shows_bad_rows_and_ends_with_1(self, library: Library, home: Path, tmp_path: Path) -> None:
        file = rows(tmp_path, "conversation,turn,label", "anna,3,REACTION", "anna,3,HAPPY")
        done = CliRunner().invoke(app, ["labels", "import", str(file)])
        assert done.exit_code == 1
        assert "line 3: unknown label" in done.stderr
        assert "1 new" in done.stdout
        again = CliRunner().invoke(app, ["labels", "import", str(file), "--json"])
        assert json.loads(again.stdout)["bad"][0]["line"] == 3


def test_the_guide_explains_every_label() -> None:
    guide = (DOCS / "labels.md").read_text(encoding="utf-8")
    for task in TASKS:
        for label in MEANINGS[task]:
            assert f"`{label}`" in guide


def first_readings() -> list[TurnLabel]:
    return [label for label in read_gold() if label.reading == 1]
