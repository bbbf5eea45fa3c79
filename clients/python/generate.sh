#!/usr/bin/env bash
# Generates the clients into a folder that then belongs on PYTHONPATH:
#
#   clients/python/generate.sh DIRECTORY
#
# PYTHON names the Python that has grpcio-tools (default: python3).

set -euo pipefail

mkdir -p "$1"
out=$(cd "$1" && pwd)
cd "$(dirname "${BASH_SOURCE[0]}")/../../proto"
"${PYTHON:-python3}" -m grpc_tools.protoc --proto_path=. \
  --python_out="$out" --pyi_out="$out" --grpc_python_out="$out" auth/v1/*.proto user/v1/*.proto
