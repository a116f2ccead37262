#!/usr/bin/env bash
# Installs what the tests need and runs them: bash launch/test.sh [pytest arguments]. Slow proofs: bash launch/test.sh -m slow
set -euo pipefail
cd "$(dirname "$0")/.."
bash launch/install.sh test
.venv/bin/python -m launch.features || echo "without the feature weights, the tests that need them are skipped" >&2
.venv/bin/ruff check .
exec .venv/bin/python -m pytest -n 2 --dist loadfile "$@"
