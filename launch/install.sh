#!/usr/bin/env bash
# Makes .venv and installs the package in it, pinned: bash launch/install.sh [EXTRA,EXTRA]. Quick when nothing changed.
set -euo pipefail
cd "$(dirname "$0")/.."
extras="${1:-}"

if [ ! -x .venv/bin/python ]; then
  for python in python3 python3.12 python3.11 python3.13; do
    if command -v "$python" >/dev/null && "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      "$python" -m venv .venv && break
    fi
  done
fi
[ -x .venv/bin/python ] || { echo "error: needs python3 of version 3.11 or newer, with the venv module" >&2; exit 2; }

want="$(cat setup.cfg launch/constraints.txt | cksum)"
stamp=".venv/installed"
have="$(sed -n 1p "$stamp" 2>/dev/null || true)"
done_extras="$(sed -n 2p "$stamp" 2>/dev/null || true)"
[ "$want" = "$have" ] || done_extras=""
missing=""
for extra in ${extras//,/ }; do case ",$done_extras," in *",$extra,"*) ;; *) missing="$missing $extra" ;; esac; done
if [ "$want" != "$have" ] || [ -n "$missing" ]; then
  all="$(echo "${done_extras//,/ } ${extras//,/ }" | tr ' ' '\n' | sort -u | sed '/^$/d' | paste -sd,)"
  echo "installing sora_jax${all:+[$all]} into .venv (about a minute the first time)"
  .venv/bin/python -m pip install --quiet --disable-pip-version-check -c launch/constraints.txt -e ".${all:+[$all]}"
  printf '%s\n%s\n' "$want" "$all" > "$stamp"
fi
