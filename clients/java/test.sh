#!/usr/bin/env bash
# Generates the client, compiles it and tests it against running services: see clients/README.md.
#
# Needs a JDK, 17 or later, and Maven, 3.8 or later. Reads AUTH_GRPC, USER_GRPC, AUTH_HTTP and VECTORS.

set -euo pipefail
: "${AUTH_GRPC:?}" "${USER_GRPC:?}" "${AUTH_HTTP:?}" "${VECTORS:?}"
VECTORS=$(realpath "$VECTORS")
export VECTORS
cd "$(dirname "${BASH_SOURCE[0]}")"

# Quiet but for what the tests say.
mvn --batch-mode --quiet -Dorg.slf4j.simpleLogger.log.org.apache.maven.plugin.surefire=info test
