# shellcheck shell=bash
# Finds Chromium, under whichever name the machine has it. To be sourced.

# chromium_find: sets and exports CHROMIUM, the browser's program, unless the caller has set it.
chromium_find() {
  local name
  if [[ -n ${CHROMIUM:-} ]]; then
    return
  fi
  for name in chromium chromium-browser google-chrome google-chrome-stable; do
    if CHROMIUM=$(command -v "$name"); then
      export CHROMIUM
      return
    fi
  done
  unset CHROMIUM
  return 1
}
