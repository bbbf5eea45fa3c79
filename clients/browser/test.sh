#!/usr/bin/env bash
# Type-checks the client and tests it, alone, against running services, and on the example page in Chromium: see
# clients/README.md.
#
# Needs Node.js 20.3 or later with npm, and Chromium. Reads AUTH_HTTP, USER_HTTP, PAGE_ORIGIN and MAIL_FOLDER.

set -euo pipefail
: "${AUTH_HTTP:?}" "${USER_HTTP:?}" "${PAGE_ORIGIN:?}" "${MAIL_FOLDER:?}"
# shellcheck source=scripts/lib/chromium.sh
source scripts/lib/chromium.sh
chromium_find || {
  echo 'needs Chromium' >&2
  exit 1
}
cd "$(dirname "${BASH_SOURCE[0]}")"

npm ci --loglevel=error --prefer-offline
npm run --silent generate
npm run --silent build
npm test --silent
