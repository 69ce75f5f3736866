"""Write BENCHMARKS.md anew from benchmarks/results.json, without measuring anything."""

from __future__ import annotations

import json
from pathlib import Path

from jarvis_embed.evaluation.bench_report import markdown

HERE = Path(__file__).resolve().parent

if __name__ == "__main__":
    report = json.loads((HERE / "results.json").read_text(encoding="utf-8"))
    (HERE.parent / "BENCHMARKS.md").write_text(markdown(report), encoding="utf-8")
