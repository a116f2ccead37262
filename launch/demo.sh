#!/usr/bin/env bash
# From a bare clone to a scaling curve and sampled video, in about ten minutes on two cores: runs/demo/report.html
set -euo pipefail
cd "$(dirname "$0")/.."
bash launch/install.sh
exec .venv/bin/python -m launch.demo "$@"
