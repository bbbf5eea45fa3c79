#!/usr/bin/env bash
# Generates the Python clients and runs their tests. See clients/README.md.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

out=$PWD/target/clients/python
python=$out/venv/bin/python
mkdir -p "$out"

# The packages stay until their list changes.
if ! cat clients/python/requirements*.txt | cmp --silent - "$out/installed"; then
  rm -rf "$out/venv"
  python3 -m venv "$out/venv"
  "$python" -m pip install --quiet --disable-pip-version-check \
    --requirement clients/python/requirements-dev.txt
  cat clients/python/requirements*.txt >"$out/installed"
fi

rm -rf "$out/gen"
PYTHON=$python clients/python/generate.sh "$out/gen"

cd clients/python
PYTHONPATH=$out/gen PYTHONPYCACHEPREFIX=$out/pycache exec "$python" -m pytest "$@"
