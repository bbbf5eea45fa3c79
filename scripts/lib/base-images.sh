# shellcheck shell=bash
# Substitutes for the images that Dockerfile and docker-compose.yml pull, for machines that cannot
# reach an image registry: Debian by debootstrap, with this machine's Rust and crates, and with
# Debian's Postgres. Source it after tools.sh, as root.

# base_images FOLDER: creates the root file systems rust, debian and postgres in it, unless they exist.
base_images() {
  local folder=$1 bin
  tools_debian debootstrap debootstrap
  mkdir -p "$folder"
  if [[ ! -e $folder/debian.done ]]; then
    rm -rf "$folder/debian"
    debootstrap --variant=minbase bookworm "$folder/debian" >"$folder/debootstrap.log" 2>&1 ||
      tools_die "debootstrap has failed: $folder/debootstrap.log"
    rm -rf "$folder/debian/var/cache/apt"/*.bin
    touch "$folder/debian.done"
  fi
  if [[ ! -e $folder/postgres.done ]]; then
    base_images_with "$folder" postgres postgresql
    # As in the official image: its user, its folder, its programs on the PATH.
    chroot "$folder/postgres" sh -c '
      usermod -u 70 postgres && groupmod -g 70 postgres &&
      install -d -o 70 -g 70 -m 1777 /var/lib/postgresql/data /var/run/postgresql
      chown 70:70 /var/lib/postgresql'
    for bin in "$folder"/postgres/usr/lib/postgresql/*/bin/*; do
      ln -sf "${bin#"$folder/postgres"}" "$folder/postgres/usr/local/bin/"
    done
    install -m 0755 scripts/lib/postgres-entrypoint "$folder/postgres/usr/local/bin/docker-entrypoint.sh"
    touch "$folder/postgres.done"
  fi
  if [[ ! -e $folder/rust.done ]]; then
    # The other packages of rust:slim.
    base_images_with "$folder" rust gcc libc6-dev ca-certificates
    mkdir -p "$folder/rust/opt/rust" "$folder/rust/opt/cargo/registry"
    cp -a "$(rustc --print sysroot)/." "$folder/rust/opt/rust/"
    rm -rf "$folder/rust/opt/rust/share/doc"
    touch "$folder/rust.done"
  fi
  # The crates in the lock file, which the build cannot download, and the tool for the bill of
  # materials.
  cargo fetch --locked
  local version
  version=$(sed -n 's/^ARG CARGO_SBOM_VERSION=//p' Dockerfile)
  # shellcheck disable=SC2154  # of tools.sh
  [[ -x $tools/bin/cargo-sbom ]] ||
    cargo install --quiet --locked --debug --root "$tools" --target-dir "$tools/build" "cargo-sbom@$version"
  rm -rf "$folder/rust/opt/cargo/registry"
  mkdir -p "$folder/rust/opt/cargo/registry"
  cp -a "${CARGO_HOME:-$HOME/.cargo}/registry/index" "${CARGO_HOME:-$HOME/.cargo}/registry/cache" \
    "$folder/rust/opt/cargo/registry/"
}

# base_images_with FOLDER NAME PACKAGE...: creates a copy of debian with these packages.
base_images_with() {
  local folder=$1 tree=$1/$2
  shift 2
  rm -rf "$tree"
  cp -a "$folder/debian" "$tree"
  cp /etc/resolv.conf "$tree/etc/resolv.conf"
  cp /etc/apt/sources.list "$tree/etc/apt/" 2>/dev/null || true
  cp -r /etc/apt/sources.list.d /etc/apt/apt.conf.d "$tree/etc/apt/" 2>/dev/null || true
  printf '#!/bin/sh\nexit 101\n' >"$tree/usr/sbin/policy-rc.d"
  chmod 0755 "$tree/usr/sbin/policy-rc.d"
  { chroot "$tree" apt-get update -qq &&
    chroot "$tree" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" &&
    chroot "$tree" apt-get clean; } >"$tree.log" 2>&1 || tools_die "cannot install $*: $tree.log"
}
