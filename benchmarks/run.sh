#!/bin/sh
# Measure against sentence-transformers and fastembed, in an environment of its own.
#   benchmarks/run.sh [ENVIRONMENT] [options of jarvis-embed bench]
# Let nothing else run meanwhile. bge-small takes part if its weights are here: jarvis-embed models pull bge-small
set -eu
cd "$(dirname "$0")/.."
environment=${1:-.venv-bench}
[ $# -eq 0 ] || shift
[ -x "$environment/bin/python" ] || python3 -m venv "$environment"
"$environment/bin/python" -m pip install --quiet --editable ".[demo]" --requirement benchmarks/requirements.txt
exec "$environment/bin/jarvis-embed" bench --output benchmarks/results.json --markdown BENCHMARKS.md "$@"
