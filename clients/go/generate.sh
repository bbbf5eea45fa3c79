#!/usr/bin/env bash
# Generates gen/ anew from proto/, with the versions that go.mod names:
#
#   clients/go/generate.sh               # in clients/go
#   clients/go/generate.sh DIRECTORY     # in that folder
#
# Needs Go; and buf, or npx to get it with, or else minutes to build it with Go.

set -euo pipefail

BUF_VERSION=1.75.0 # as in .ci/run

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
mkdir -p "${1:-$here}"
out=$(cd "${1:-$here}" && pwd)
cd "$here"
tools=$(cd ../.. && pwd)/target/tools/bin
export PATH=$tools:$PATH

rm -rf "$out/gen"
if command -v buf >/dev/null; then
  buf generate --output "$out"
elif command -v npx >/dev/null; then
  npx --yes "@bufbuild/buf@$BUF_VERSION" generate --output "$out"
else
  GOBIN=$tools go install "github.com/bufbuild/buf/cmd/buf@v$BUF_VERSION"
  buf generate --output "$out"
fi
