# shellcheck shell=bash
# Programs that scripts need but do not expect to be installed. They are installed by name and version into
# target/tools and kept there.
#
# To be sourced in the root of the repository. Puts target/tools/bin on the PATH.

tools=$PWD/target/tools
export PATH=$tools/bin:$PATH:/usr/local/sbin:/usr/sbin:/sbin

tools_die() {
  printf '%s: %s\n' "${0##*/}" "$*" >&2
  exit 1
}

# tools_python PACKAGE==VERSION...: installs Python packages that contain programs, and links the programs.
# Each package gets its own environment, so that their dependencies cannot conflict.
tools_python() {
  command -v python3 >/dev/null || tools_die 'needs Python 3 with venv'
  local package folder program
  mkdir -p "$tools/bin"
  for package; do
    folder=$tools/python/$package
    # The marker is written last, so that an interrupted installation is repeated.
    if [[ ! -e $folder/installed ]]; then
      printf '%s: installing %s\n' "${0##*/}" "$package" >&2
      rm -rf "$folder"
      python3 -m venv "$folder" || tools_die "cannot make a Python environment for $package"
      "$folder/bin/pip" install --quiet --disable-pip-version-check "$package" ||
        tools_die "cannot install $package"
      touch "$folder/installed"
    fi
    for program in "$folder"/bin/*; do
      case ${program##*/} in
        activate* | Activate* | pip* | python*) ;;
        *) ln -sf "$program" "$tools/bin/" ;;
      esac
    done
  done
}

# tools_go PROGRAM MODULE@VERSION: builds a program, once per version.
tools_go() {
  local mark=$tools/go/${2//\//_}
  [[ ! -e $mark || ! -x $tools/bin/$1 ]] || return 0
  command -v go >/dev/null || tools_die "needs Go, to build $1 with"
  printf '%s: building %s\n' "${0##*/}" "$2" >&2
  mkdir -p "$tools/bin" "$tools/go"
  GOBIN=$tools/bin CGO_ENABLED=0 go install "$2" || tools_die "cannot build $2"
  touch "$mark"
}

# tools_debian PROGRAM PACKAGE...: installs Debian packages if the program is missing, without starting
# servers that they contain.
tools_debian() {
  ! command -v "$1" >/dev/null || return 0
  local program=$1 log as_root=()
  shift
  command -v apt-get >/dev/null || tools_die "needs $program"
  ((EUID == 0)) || as_root=(sudo -n)
  printf '%s: installing %s\n' "${0##*/}" "$*" >&2
  # In runlevel 1, packages do not start their services.
  log=$({ ${as_root[@]+"${as_root[@]}"} apt-get -o DPkg::Lock::Timeout=300 update -qq &&
    ${as_root[@]+"${as_root[@]}"} env RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive \
      apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends "$@"; } 2>&1) ||
    tools_die "cannot install $*: $log"
  command -v "$program" >/dev/null || tools_die "the packages $* have no program $program"
}
