#!/usr/bin/env bash
# Checks that the generated code is that of proto/, and runs the tests of the Go
# clients. See clients/README.md.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

out=$PWD/../../target/clients/go
./generate.sh "$out"
if ! diff --recursive --brief "$out/gen" gen; then
  echo 'gen/ is not what proto/ makes: run clients/go/generate.sh' >&2
  exit 1
fi

test -z "$(gofmt -l . | tee /dev/stderr)"
go vet ./...
# Never from the cache: the services are others each time.
go test -count=1 "$@" ./...
