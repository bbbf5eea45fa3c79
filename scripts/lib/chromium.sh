# shellcheck shell=bash
# Finds Chromium, whatever its program is called on this machine. To be sourced.

# chromium_find: sets and exports CHROMIUM to the path of the browser, unless it is already set.
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
