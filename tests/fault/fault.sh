#!/bin/bash
# SPDX-License-Identifier: MIT
# fault.sh PROGRAM [ARGUMENT]...: run a driver of the fault tests in a folder of its own, with azpard and its stand-in
# children in it, from the repository's root with AZPAR_BUILD set. For scenarios: fault.sh scenarios NAME [SEED [SECONDS]].
set -euo pipefail

programs=$(readlink -f "${AZPAR_BUILD:-build/release}")
helpers=$programs/tests/fault
folder=$(mktemp -d "${TMPDIR:-/tmp}/azpar-fault-XXXXXX")
# The state directory is in memory where that is possible: thousands of fsyncs of a disk prove nothing here. Programs are
# not, since memory is often mounted noexec.
disk=$(mktemp -d /dev/shm/azpar-fault-XXXXXX 2>/dev/null) || disk=$(mktemp -d "$folder/disk-XXXXXX")
ln -s "$disk" "$folder/disk"
driver= pid=
cleanup() {
        [ -z "$driver" ] || kill -KILL "$driver" 2>/dev/null || true # azpard's death takes its children along
        [ -z "$pid" ] || rm -f "/dev/shm/azpar.fault-$pid"
        rm -rf "$folder" "$disk"
}
trap cleanup EXIT
trap 'exit 1' INT TERM

cp "$programs/azpard" "$helpers/inject.so" "$folder/"
cp "$helpers/child" "$folder/azpar-worker"
cp "$helpers/child" "$folder/azpar-trainer"
cat >"$folder/azpar.conf" <<END
[game]
name = tictactoe
[network]
filters = 8
blocks = 1
[selfplay]
workers = 2
max_workers = 2
[replay]
window = 12000
sync_interval = 1
[service]
lane_bytes = 65536
heartbeat_timeout = 3600
restart_limit = 1000
stop_timeout = 3600
END
# A program with a sanitizer in it wants that to be the first library; it stands behind inject.so as well.
export ASAN_OPTIONS=${ASAN_OPTIONS:-}:verify_asan_link_order=0

program=$1 name=$2 seed=${3:-$RANDOM} seconds=${4:-3}
[ -z "${AZPAR_LONG:-}" ] || seconds=0
echo "seed $seed"
"$helpers/$program" "$folder" "$name" "$seed" "$seconds" &
driver=$! pid=$!
wait "$driver"
driver=
