#!/usr/bin/env bash
# Runs a private, temporary Postgres for tests.
#
#   scripts/lib/postgres.sh COMMAND [ARG...]   runs COMMAND with TEST_POSTGRES_URL set
#   scripts/lib/postgres.sh                    prints the URL and stays until interrupted
#
# If it is sourced, it provides postgres_start, postgres_stop, postgres_create_database and
# postgres_drop_database. The server only listens on a free port of 127.0.0.1, has no Unix socket
# and requires a random password. Its files are in a temporary directory that postgres_stop deletes.
# fsync stays on, because tests that kill the database must find what would be on the disk.
#
# This must work with bash 3.2, the version on macOS.

set -euo pipefail

POSTGRES_BIN=''      # the directory with initdb and pg_ctl
POSTGRES_DIR=''      # the temporary directory; empty while no server of ours runs
POSTGRES_USER=''     # who owns it; empty: whoever runs this
POSTGRES_URL=''      # a superuser's URL of the maintenance database

postgres_die() {
  printf 'postgres: %s\n' "$*" >&2
  return 1
}

# Prints every directory that may contain server binaries, one per line.
postgres_candidates() {
  local found
  if found=$(command -v pg_ctl); then
    # Distributions put links to single programs into PATH; the others are next to the link's
    # target.
    while [[ -L $found ]]; do
      local target
      target=$(readlink "$found")
      [[ $target == /* ]] || target=$(dirname "$found")/$target
      found=$target
    done
    dirname "$found"
  fi
  if command -v pg_config >/dev/null; then
    pg_config --bindir 2>/dev/null || true
  fi
  printf '%s\n' \
    /usr/lib/postgresql/*/bin \
    /usr/libexec/postgresql*/ \
    /usr/pgsql-*/bin \
    /opt/homebrew/opt/postgresql*/bin \
    /usr/local/opt/postgresql*/bin \
    /home/linuxbrew/.linuxbrew/opt/postgresql*/bin \
    /Applications/Postgres.app/Contents/Versions/*/bin
}

# Sets POSTGRES_BIN to the newest server found. Fails if there is none.
postgres_find() {
  local dir version best=0
  while IFS= read -r dir; do
    dir=${dir%/}
    [[ -x $dir/initdb && -x $dir/pg_ctl && -x $dir/postgres ]] || continue
    version=$("$dir/postgres" --version 2>/dev/null | sed -n 's/^[^0-9]*\([0-9][0-9]*\).*/\1/p')
    if [[ -n $version ]] && ((version > best)); then
      best=$version
      POSTGRES_BIN=$dir
    fi
  done < <(postgres_candidates)
  ((best > 0))
}

postgres_as_root() {
  if ((EUID == 0)); then
    "$@"
  elif ! command -v sudo >/dev/null; then
    postgres_die "needs root to run: $*"
  elif [[ -t 0 ]]; then
    sudo "$@"
  else
    sudo -n "$@"
  fi
}

# Installs the system's package of the server.
postgres_install() {
  printf 'postgres: no server is installed; installing the package of this system\n' >&2
  if command -v apt-get >/dev/null; then
    postgres_as_root apt-get update -qq &&
      postgres_as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends postgresql
  elif command -v apk >/dev/null; then
    postgres_as_root apk add --no-cache postgresql postgresql-client
  elif command -v dnf >/dev/null; then
    postgres_as_root dnf install -y -q postgresql-server
  elif command -v brew >/dev/null; then
    brew install --quiet postgresql@17
  else
    postgres_die 'found none of apt-get, apk, dnf and brew'
  fi >&2
}

postgres_ensure() {
  if postgres_find || { postgres_install && postgres_find; }; then
    return
  fi
  postgres_die 'no server to test with: install PostgreSQL, or set TEST_POSTGRES_URL to a' \
    'superuser URL of a running one'
}

# Runs a server program as POSTGRES_USER, because the server refuses to run as root.
postgres_run() {
  (
    # That user may not have access to the caller's directory, and the caller's settings for clients
    # (PGDATA, PGPORT, ...) must not affect this server.
    cd "$POSTGRES_DIR"
    unset "${!PG@}"
    if [[ -z $POSTGRES_USER ]]; then
      exec "$@"
    elif setpriv --reuid="$POSTGRES_USER" true 2>/dev/null; then
      exec setpriv --reuid="$POSTGRES_USER" --regid="$(id -g "$POSTGRES_USER")" \
        --clear-groups "$@"
    elif command -v runuser >/dev/null; then
      exec runuser -u "$POSTGRES_USER" -- "$@"
    else
      exec su -s "$BASH" "$POSTGRES_USER" -c "$(printf '%q ' "$@")"
    fi
  )
}

# Prints a port of 127.0.0.1 on which nothing listens, below the range that systems use for
# automatic ports. Another process may take it at any time, so the caller must handle a failure to
# bind it.
free_port() {
  local port
  while :; do
    port=$((20000 + (RANDOM * 32768 + RANDOM) % 12000))
    (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
  done
  printf '%s\n' "$port"
}

# Prints 32 random hexadecimal digits.
random_hex() {
  od -An -N16 -tx1 /dev/urandom | tr -d ' \n'
}

# Sets POSTGRES_DIR to a new directory, and POSTGRES_USER to the user that runs a server in it.
postgres_make_directory() {
  local parent
  if ((EUID == 0)); then
    POSTGRES_USER=nobody
    if id postgres >/dev/null 2>&1; then
      POSTGRES_USER=postgres
    fi
  fi
  # The server's user may not have access to root's TMPDIR.
  for parent in "${TMPDIR:-/tmp}" /tmp; do
    POSTGRES_DIR=$(mktemp -d "${parent%/}/latchkey-postgres.XXXXXX")
    if [[ -n $POSTGRES_USER ]]; then
      chown "$POSTGRES_USER" "$POSTGRES_DIR"
    fi
    postgres_run test -w "$POSTGRES_DIR" 2>/dev/null && break
    rm -rf "$POSTGRES_DIR"
    POSTGRES_DIR=''
  done
  [[ -n $POSTGRES_DIR ]] || postgres_die 'no temporary directory that the server may use' || return
}

# Sets POSTGRES_URL to TEST_POSTGRES_URL if that is set, else to the URL of a server that it starts.
# The caller must trap EXIT with postgres_stop before it calls this.
postgres_start() {
  if [[ -n ${TEST_POSTGRES_URL:-} ]]; then
    POSTGRES_URL=$TEST_POSTGRES_URL
    return
  fi
  postgres_ensure || return

  postgres_make_directory || return

  local password port attempt
  password=$(random_hex)
  printf '%s\n' "$password" >"$POSTGRES_DIR/password"
  if [[ -n $POSTGRES_USER ]]; then
    chown "$POSTGRES_USER" "$POSTGRES_DIR/password"
  fi
  # --no-sync only skips flushing the files of initdb itself.
  if ! postgres_run "$POSTGRES_BIN/initdb" --pgdata="$POSTGRES_DIR/data" --no-sync \
    --username=postgres --auth=scram-sha-256 --pwfile="$POSTGRES_DIR/password" \
    --encoding=UTF8 --locale=C >"$POSTGRES_DIR/initdb.log" 2>&1; then
    cat "$POSTGRES_DIR/initdb.log" >&2
    postgres_die 'initdb failed' || return
  fi
  # Replication and large buffers would only slow down the start.
  cat >>"$POSTGRES_DIR/data/postgresql.conf" <<-CONF
	listen_addresses = '127.0.0.1'
	unix_socket_directories = ''
	max_connections = 200
	shared_buffers = 64MB
	wal_level = minimal
	max_wal_senders = 0
	CONF

  # Another process may take the port before the server binds it.
  for attempt in 1 2 3 4 5; do
    port=$(free_port)
    # pg_ctl detaches the server from the terminal, so that ^C stops the tests first, which then
    # still can drop their databases.
    if postgres_run "$POSTGRES_BIN/pg_ctl" start --wait --silent --timeout=60 \
      --pgdata="$POSTGRES_DIR/data" --log="$POSTGRES_DIR/log" --options="-p $port" \
      >"$POSTGRES_DIR/pg_ctl.log" 2>&1 </dev/null; then
      POSTGRES_URL="postgres://postgres:$password@127.0.0.1:$port/postgres"
      return
    fi
    grep -qs 'could not bind' "$POSTGRES_DIR/log" || break
    printf 'postgres: port %s was taken, attempt %s\n' "$port" "$attempt" >&2
  done
  tail -n 30 "$POSTGRES_DIR/pg_ctl.log" "$POSTGRES_DIR/log" >&2 || true
  postgres_die 'the server did not start'
}

# Stops the server that postgres_start started, if any, and deletes its files. Says why if the server has
# ended before, for example because the disk is full.
postgres_stop() {
  [[ -n $POSTGRES_DIR ]] || return 0
  if [[ -n $POSTGRES_URL ]] && ! postgres_run "$POSTGRES_BIN/pg_ctl" status \
    --pgdata="$POSTGRES_DIR/data" >/dev/null 2>&1; then
    printf 'postgres: the server ended by itself; its last lines:\n' >&2
    tail -n 30 "$POSTGRES_DIR/log" >&2 || true
  fi
  if [[ -e $POSTGRES_DIR/data/postmaster.pid ]]; then
    # Stop at once and without a checkpoint, because nobody reads these files again.
    postgres_run "$POSTGRES_BIN/pg_ctl" stop --silent --mode=immediate \
      --pgdata="$POSTGRES_DIR/data" >/dev/null 2>&1 || true
  fi
  rm -rf "$POSTGRES_DIR"
  POSTGRES_DIR=''
}

# Runs one statement on the maintenance database.
postgres_execute() {
  local psql=$POSTGRES_BIN/psql
  [[ -x $psql ]] || psql=$(command -v psql) || {
    # If TEST_POSTGRES_URL is set, the programs have not been looked for yet.
    postgres_ensure || return
    psql=$POSTGRES_BIN/psql
    [[ -x $psql ]] || psql=psql
  }
  "$psql" -X -q -v ON_ERROR_STOP=1 -d "$POSTGRES_URL" -c "$1" >&2
}

# Creates the database $1 and prints its URL.
postgres_create_database() {
  postgres_execute "CREATE DATABASE \"$1\"" || return
  # Only the path is replaced; parameters such as sslmode stay.
  local base=${POSTGRES_URL%%\?*} parameters=''
  [[ $POSTGRES_URL != *\?* ]] || parameters="?${POSTGRES_URL#*\?}"
  printf '%s\n' "${base%/*}/$1$parameters"
}

# Drops the database $1, and closes its connections.
postgres_drop_database() {
  postgres_execute "DROP DATABASE IF EXISTS \"$1\" WITH (FORCE)"
}

if [[ ${BASH_SOURCE[0]} == "$0" ]]; then
  trap postgres_stop EXIT
  # A signal ends the script through the EXIT trap, with the status for that signal.
  trap 'exit 130' INT
  trap 'exit 143' TERM
  trap 'exit 129' HUP
  postgres_start
  if (($# > 0)); then
    status=0
    TEST_POSTGRES_URL=$POSTGRES_URL "$@" || status=$?
    exit "$status"
  fi
  printf '%s\n' "$POSTGRES_URL"
  while :; do
    sleep 86400 &
    wait "$!"
  done
fi
