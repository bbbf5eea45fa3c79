#!/usr/bin/env bash
# What bench/run and bench/pages share. To be sourced from the root of the repository.

set -euo pipefail
# shellcheck source=scripts/lib/postgres.sh
source scripts/lib/postgres.sh

work=$(mktemp -d "${TMPDIR:-/tmp}/latchkey-bench.XXXXXX")
servers=()        # process ids of what still runs
database=''       # what to drop at the end
target=${CARGO_TARGET_DIR:-target}/release

# The caller of every request, and the subject of its token.
caller=00000000-0000-4000-8000-000000000000

cleanup() {
  local item
  for item in ${servers[@]+"${servers[@]}"}; do
    kill -KILL "$item" 2>/dev/null || true
  done
  [[ -z $database ]] || postgres_drop_database "$database" || true
  postgres_stop
  rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP

die() {
  printf 'bench: %s\n' "$*" >&2
  exit 1
}

say() {
  printf '%s\n' "$*" >&2
}

# Replaces that of scripts/lib/postgres.sh: a range that is ours alone.
free_port() {
  local port
  while :; do
    port=$((33000 + RANDOM % 1000))
    (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
  done
  printf '%s\n' "$port"
}

need() {
  local program
  for program in cargo wrk openssl python3 timeout; do
    command -v "$program" >/dev/null || die "$program is not installed"
  done
}

# SKIP_BUILD=1 measures what was built last.
build() {
  [[ -z ${SKIP_BUILD:-} ]] || return 0
  say 'building'
  cargo build --release -p user-service -p bench
}

# Runs the statements of the standard input in the database; prints bare rows.
sql() {
  local psql=$POSTGRES_BIN/psql
  [[ -x $psql ]] || psql=psql
  PGOPTIONS='-c statement_timeout=15min' "$psql" -X -q -A -t -v ON_ERROR_STOP=1 -d "$url"
}

# Sets url to a new Postgres database.
new_database() {
  postgres_start
  database=latchkey_bench_$$
  url=$(postgres_create_database "$database")
}

# wait_for PORT: until something answers there, for at most 30 s.
wait_for() {
  local tries
  for ((tries = 0; tries < 300; tries++)); do
    (: <"/dev/tcp/127.0.0.1/$1") 2>/dev/null && return
    sleep 0.1
  done
  die "nothing listens on port $1"
}

# service PORT [NAME=VALUE...]: starts a user service there.
service() {
  local port=$1
  shift
  env HTTP_ADDR="127.0.0.1:$port" GRPC_ADDR=127.0.0.1:0 METRICS_ADDR=off DATABASE_URL="$url" \
    LOG_FORMAT=json "$@" "$target/user-service" >/dev/null 2>"$work/$port.err" &
  servers+=("$!")
  wait_for "$port"
}

# load PORT CONNECTIONS SECONDS TOKEN
load() {
  timeout $(($3 + 20)) wrk --threads 1 --connections "$2" --duration "$3s" --timeout 5s \
    --header "Authorization: Bearer $4" --script bench/load.lua "http://127.0.0.1:$1" |
    sed -n 's/^RESULT\t//p'
}

encode() {
  openssl base64 -A | tr '+/' '-_' | tr -d '='
}

# token ALGORITHM: prints a token for the caller that is good for two hours. HS256 is signed with
# $secret, RS256 with $work/key.pem.
token() {
  local now signed
  now=$(date +%s)
  signed=$(printf '{"alg":"%s","typ":"JWT"}' "$1" | encode).$(
    printf '{"sub":"%s","email":"caller@example.com","iat":%d,"exp":%d}' \
      "$caller" "$now" $((now + 7200)) | encode
  )
  case $1 in
    HS256) printf '%s' "$signed" | openssl dgst -sha256 -hmac "$secret" -binary ;;
    RS256) printf '%s' "$signed" | openssl dgst -sha256 -sign "$work/key.pem" ;;
  esac | encode >"$work/signature"
  printf '%s.%s\n' "$signed" "$(cat "$work/signature")"
}

secret=$(random_hex)
