"""The page: whole, private, readable, and right in a real browser."""

from __future__ import annotations

import json
import re
import stat
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import jarvis_embed as je
from browser import chromium
from jarvis_embed.cli import app
from jarvis_embed.errors import EvaluationError
from jarvis_embed.evaluation import bootstrap, plots
from jarvis_embed.evaluation.comparison import store_comparison
from jarvis_embed.evaluation.report import render
from jarvis_embed.labels.scheme import LABELS
from test_compare import compared, compared_once, two_models  # noqa: F401  fixtures

Json = dict[str, Any]

pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")


@pytest.fixture
def full(compared: Json) -> Json:  # noqa: F811
    """A comparison with everything a page can show: also confusions, labels in the map, and a shape's time."""
    labels = ["COMMITMENT", "QUESTION", "REACTION", "SOCIAL", "STATEMENT"]
    counts = [[20 if a == b else (a + b) % 3 for b in range(5)] for a in range(5)]
    for model in compared["models"]:
        model["confusions"] = {name: {"labels": labels, "counts": counts} for name in ("trigger_f1", "response_f1")}
        figures = [{"label": label, "value": 0.8, "interval": {"low": 0.7, "high": 0.85}} for label in labels]
        model["labels"] = dict.fromkeys(("trigger_f1", "response_f1"), figures)
        for place, point in enumerate(model["map"]["points"]):
            point["label"] = labels[place % 5]
        threads = [[[0.1 * at, 0.2 * thread] for at in range(3)] for thread in range(4)]
        model["thread_map"] = {"explained": 0.2, "threads": threads, "around": [[0.5, 0.5], [0.6, 0.1]]}
    compared["absent"][0]["shape_speed"] = compared["models"][0]["speed"]
    return compared


def test_everything_is_on_the_page(full: Json) -> None:
    page = render(full)
    assert full["recommendation"]["reason"] in page.replace("&#39;", "'")
    for title in (
        "From a message to suggestions",
        "Quality against time",
        "F1 of each class",
        "What is taken for what",
        "Same thread, other thread",
        "A map of threads",
        "A map of triggers",
        "All figures",
        "How each number was made",
    ):
        assert f"<h2>{title}</h2>" in page
    assert page.count("<svg") == 1 + 2 + 2 + 2 + 4 + 4 + 2 + 2
    assert "jarvis-embed models pull gte-tiny" in page
    assert "100–150 ms" in page
    assert f"{bootstrap.DRAWS:,} draws" in page


def test_a_trained_model_stands_below_its_parent(full: Json) -> None:
    parent, trained = full["models"]
    assert "before" not in "".join(section_titles(render(full), "Same thread, other thread"))
    trained["parent"] = parent["name"]
    titles = section_titles(render(full), "Same thread, other thread")
    assert len(titles) == 4
    assert [("before: mean" in title, title.split(",")[0]) for title in titles] == [
        *[(False, parent["name"])] * 2,
        *[(True, trained["name"])] * 2,
    ]
    assert full["models"][1]["threads"]
    assert "before, the parent" in render(full)


def section_titles(page: str, heading: str) -> list[str]:
    """The captions of the pictures below a heading."""
    section = page.split(f"<h2>{heading}</h2>")[1].split("<h2>")[0]
    return re.findall(r"<figcaption>(.*?)</figcaption>", section, re.DOTALL)


def test_every_picture_says_in_words_what_it_shows(full: Json) -> None:
    page = render(full)
    said = re.findall(r'role="img" aria-label="([^"]+)"', page)
    assert len(said) == page.count("<svg")
    assert all(len(words) > 40 for words in said)


def test_no_two_things_have_one_name(full: Json) -> None:
    names = re.findall(r'\bid="([^"]+)"', render(full))
    assert len(names) == len(set(names))


def test_every_reference_leads_to_something_on_the_page(full: Json) -> None:
    page = render(full)
    named = set(re.findall(r'\bid="([^"]+)"', page))
    assert set(re.findall(r'(?:href="|url\()#([^")]+)', page)) <= named


def test_colours_are_the_pages_own(full: Json) -> None:
    pictures = re.findall(r"<svg.*?</svg>", render(full), re.DOTALL)
    assert not [found for svg in pictures for found in re.findall(r"#[0-9a-f]{6}\b", svg) if found != "#000000"]


def test_what_was_not_measured_is_not_drawn(compared: Json) -> None:  # noqa: F811
    for model in compared["models"]:
        model |= {"confusions": {}, "labels": {}, "stages": [], "map": None, "space": None}
        for row in model["metrics"]:
            row |= (
                {"value": None, "interval": None, "needs": "needs gold labels"} if row["name"].endswith("_f1") else {}
            )
    page = render(compared)
    assert page.count("Not measured: needs messages: jarvis-embed ingest SOURCE") == 2
    assert page.count("Not measured: needs gold labels") == 2
    assert page.count("<svg") == 2 + 4  # what replies and threads tell


def test_no_message_unless_asked_for(two_models: Path, compared: Json) -> None:  # noqa: F811
    store_comparison(compared, two_models)
    with je.Library.open(two_models) as library:
        known = {pair.id: pair.trigger for pair in library.pairs()}
    shown = [known[point["pair"]] for point in compared["models"][0]["map"]["points"][:30]]
    path = two_models / "embeddings" / "report.html"
    assert CliRunner().invoke(app, ["report"], catch_exceptions=False).exit_code == 0
    page = path.read_text(encoding="utf-8")
    assert not any(text in page for text in shown)
    assert "It holds no message." in page
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    said = CliRunner().invoke(app, ["report", "--with-text", "--json"], catch_exceptions=False)
    assert json.loads(said.output)["with_text"] is True
    page = path.read_text(encoding="utf-8")
    assert all(f"<title>{text}</title>" in page for text in shown)
    assert "keep it to yourself" in page


def test_another_library_lends_no_text(two_models: Path, compared: Json) -> None:  # noqa: F811
    store_comparison({**compared, "library": "another"}, two_models)
    done = CliRunner().invoke(app, ["report", "--with-text"])
    assert done.exit_code == 1
    assert "Compare again" in str(done.exception)


def test_without_a_comparison_the_next_step_is_named(home: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "jarvis_embed", "report"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "error: no models have been compared yet. Compare them first: jarvis-embed compare"
    ]


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "matplotlib" else True)
    with pytest.raises(EvaluationError, match=r"needs matplotlib.*jarvis-embed\[report\]"):
        plots.require_matplotlib()


def test_a_file_that_is_no_benchmark(two_models: Path, compared: Json, tmp_path: Path) -> None:  # noqa: F811
    store_comparison(compared, two_models)
    for content in ("{", '{"schema": 1, "rows": []}', '{"schema": 99, "rows": [1]}'):
        (tmp_path / "bench.json").write_text(content)
        done = CliRunner().invoke(app, ["report", "--bench", str(tmp_path / "bench.json")])
        assert done.exit_code == 1
        assert "bench.json is" in str(done.exception)


def test_a_page_with_markup_in_a_message_shows_it_as_it_is() -> None:
    points = [{"pair": number, "x": number, "y": number % 2, "label": None} for number in range(3)]
    svg = plots.trigger_map("m", points, {0: "<script>x</script>", 2: "a & b"})
    assert "<title>&lt;script&gt;x&lt;/script&gt;</title>" in svg
    assert "<title>a &amp; b</title>" in svg
    assert "<script>" not in svg


def test_a_label_has_one_colour_in_every_map() -> None:
    def colour(*labels: str | None) -> str:
        """The colour of the last of these labels in a map that has them all."""
        points = [{"pair": number, "x": number, "y": number % 2, "label": label} for number, label in enumerate(labels)]
        group = re.findall(r'<g id="map-m-points-\d">(.*?)</g>', plots.trigger_map("m", points, {}), re.DOTALL)[-1]
        (found,) = set(re.findall(r"fill: (var\(--series-\d\))", group))
        return str(found)

    assert colour("STATEMENT") == colour("COMMITMENT", "STATEMENT") == colour("SOCIAL", "STATEMENT")
    assert len({colour(label) for label in (*LABELS["trigger"], None)}) == 6


def test_the_map_of_a_comparison_is_coloured(compared: Json) -> None:  # noqa: F811
    pytest.importorskip("chitchat_dataset")
    page = render(compared)
    assert "coloured by its likeliest label" in page
    for model in compared["models"]:
        picture = re.search(rf'aria-label="\d+ triggers of the space of {model["name"]} .*?</svg>', page, re.DOTALL)
        assert picture is not None
        assert len(set(re.findall(r"fill: (var\(--series-\d\))", picture[0]))) >= 2


def test_it_looks_right_in_a_browser(full: Json, tmp_path: Path) -> None:
    bench = json.loads((Path(__file__).parents[1] / "benchmarks" / "results.json").read_text(encoding="utf-8"))
    page = tmp_path / "page.html"
    page.write_text(render(full, bench=bench), encoding="utf-8")
    with chromium(tmp_path / "profile") as browser:
        for width in (360, 1280):
            for dark in (False, True):
                seen = browser.look(page, width, dark=dark)
                assert seen.complaints == []
                assert seen.requests == []
                assert seen.overflow == 0, f"{seen.overflow} pixels too wide at {width}"
                assert seen.scrolled == 0, f"a table is {seen.scrolled} pixels too wide at {width}"
                assert seen.smallest >= 8.5, "writing too small to read"
                shown = struct.unpack(">II", seen.screenshot[16:24])
                assert shown[0] == width
                assert shown[1] > 2000
