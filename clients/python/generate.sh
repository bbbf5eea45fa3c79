#!/usr/bin/env bash
# Generates the clients, as the package latchkey_client, into a folder that then
# belongs on PYTHONPATH:
#
#   clients/python/generate.sh DIRECTORY
#
# PYTHON names the Python that has grpcio-tools (default: python3).

set -euo pipefail

mkdir -p "$1/latchkey_client"
out=$(cd "$1/latchkey_client" && pwd)
cd "$(dirname "${BASH_SOURCE[0]}")/../../proto"
"${PYTHON:-python3}" -m grpc_tools.protoc --proto_path=. \
  --python_out="$out" --pyi_out="$out" --grpc_python_out="$out" auth/v1/*.proto user/v1/*.proto

# protoc writes the packages as they are called in proto/, and `auth` and `user` may
# be names of yours: they become parts of one package.
find "$out" -name '*.py*' -exec sed -i -E \
  -e 's/^from (auth|user)\.v1 import/from latchkey_client.\1.v1 import/' \
  -e 's/^import (auth|user)\.v1\./import latchkey_client.\1.v1./' {} +
