#!/usr/bin/env bash
# Generates the client, type-checks it and tests it against running services: see clients/README.md.
#
# Needs Node.js 20 or later with npm. Reads AUTH_GRPC, USER_GRPC, AUTH_HTTP and VECTORS.

set -euo pipefail
: "${AUTH_GRPC:?}" "${USER_GRPC:?}" "${AUTH_HTTP:?}" "${VECTORS:?}"
VECTORS=$(realpath "$VECTORS")
export VECTORS
cd "$(dirname "${BASH_SOURCE[0]}")"

npm ci --loglevel=error --prefer-offline
npm run --silent generate
npm run --silent build
npm test --silent
