#!/bin/bash
# SPDX-License-Identifier: MIT
#
# soak.sh BUILD SECONDS [FOLDER]: train at full load for SECONDS while a child is killed every four seconds, azpard stands
# still for a while every two minutes (so that games are spilled and taken back) and is killed every fifteen.
#
# Prints a row every minute, and at the end whether something grew or drifted:
#
#   memory      private dirty kB of azpard and of the largest worker; open descriptors of both
#   counters    everything in the window came through a lane or a spill file: inserted = records' and files' samples
set -euo pipefail
build=$(readlink -f "$1") seconds=$2
tmp=${3:-$(mktemp -d "${TMPDIR:-/tmp}/azpar-soak-XXXXXX")}
mkdir -p "$tmp"
azpard_pid=
cleanup() {
        [ -z "$azpard_pid" ] || { kill -CONT "$azpard_pid" && kill -KILL "$azpard_pid"; } 2>/dev/null || true
        rm -rf "$tmp/state"
}
trap cleanup EXIT
trap 'exit 1' INT TERM
cat >"$tmp/azpar.conf" <<END
[game]
name = connect4
[network]
filters = 32
blocks = 4
[search]
simulations = 50
[selfplay]
workers = 2
[replay]
window = 200000
min_samples = 2000
[train]
batch = 64
checkpoint_interval = 200
[service]
restart_limit = 1000
spill_after = 0.5
lane_bytes = 65536
heartbeat_timeout = 60
END

status() { "$build/azparctl" --state "$tmp/state" --json status 2>/dev/null; }
wait_until() { # JQ-CONDITION
        local deadline=$((SECONDS + 120))
        until status | jq -e "$1" >/dev/null; do
                [ $SECONDS -lt $deadline ] || { echo "FAIL: waited in vain until $1" && tail -n 20 "$tmp/log" && exit 1; }
                sleep 0.1
        done
}
start() {
        "$build/azpard" --config "$tmp/azpar.conf" --state "$tmp/state" >>"$tmp/log" 2>&1 &
        azpard_pid=$!
        wait_until 'all(.workers[]; .games > 0) and .trainer.state == "training"'
        # what this azpard's counters do not know of: what was there, and what it took over before it answered
        base=$(status | jq '.window.inserted - .intake.samples - .spill.taken_samples')
}
private_dirty() { awk '/^Private_Dirty/ { print $2 }' "/proc/$1/smaps_rollup" 2>/dev/null || echo 0; }
descriptors() { find "/proc/$1/fd" -mindepth 1 2>/dev/null | wc -l; }
measure() {
        local s pid dirty=0 fds=0 n
        s=$(status)
        for pid in $(jq -r '.workers[].pid // empty' <<<"$s"); do
                n=$(private_dirty "$pid") && [ "${n:-0}" -gt $dirty ] && dirty=$n
                n=$(descriptors "$pid") && [ "$n" -gt $fds ] && fds=$n
        done
        drift=$(jq ".window.inserted - .intake.samples - .spill.taken_samples - $base" <<<"$s")
        printf '%6d s  kills %4d  azpard %6d kB %3d fds  worker %6d kB %3d fds  inserted %9d  spilled back %8d  step %8d  drift %d\n' \
                $SECONDS "$kills" "$(private_dirty "$azpard_pid")" "$(descriptors "$azpard_pid")" "$dirty" "$fds" \
                "$(jq .window.inserted <<<"$s")" "$(jq .spill.taken_samples <<<"$s")" "$(jq .step <<<"$s")" "$drift" | tee -a "$tmp/rows"
        [ "$drift" = 0 ] || { echo "FAIL: the counters drift" && exit 1; }
}

kills=0 base=0 turn=0
: >"$tmp/rows"
start
measure
next_row=60 next_stop=120 next_azpard=900
while [ $SECONDS -lt "$seconds" ]; do
        sleep 4
        turn=$(((turn + 1) % 3))
        pid=$(status | jq -r "[.workers[0].pid, .workers[1].pid, .trainer.pid][$turn] // empty") || pid=
        [ -z "$pid" ] || { kill -KILL "$pid" 2>/dev/null && kills=$((kills + 1)); } || true
        if [ $SECONDS -ge $next_stop ]; then
                next_stop=$((SECONDS + 120))
                kill -STOP "$azpard_pid"
                sleep 10
                kill -CONT "$azpard_pid"
                wait_until '.spill.files == 0'
        fi
        if [ $SECONDS -ge $next_azpard ]; then
                next_azpard=$((SECONDS + 900))
                measure
                kill -KILL "$azpard_pid"
                wait "$azpard_pid" 2>/dev/null || true
                kills=$((kills + 1))
                start
        fi
        if [ $SECONDS -ge $next_row ]; then
                next_row=$((SECONDS + 60))
                wait_until 'all(.workers[]; .games > 0)'
                measure
        fi
done
"$build/azparctl" --state "$tmp/state" stop
wait "$azpard_pid"
azpard_pid=
"$build/tests/e2e/audit" "$tmp/azpar.conf" "$tmp/state/window" | tee "$tmp/audit"
jq -e '.twice == 0' "$tmp/audit" >/dev/null || { echo "FAIL: samples are there twice" && exit 1; }
# The second row against the last one: the first is of processes that have not done everything once.
awk 'NR == 2 { a = $6; w = $11; af = $8; wf = $13 }
     END {
        printf "from the second row to the last: azpard %d -> %d kB, %d -> %d descriptors; worker %d -> %d kB, %d -> %d descriptors\n", a, $6, af, $8, w, $11, wf, $13
        exit $6 > 1.5 * a + 1024 || $11 > 1.5 * w + 1024 || $8 > af + 4 || $13 > wf + 4
     }' "$tmp/rows" || { echo "FAIL: something grows" && exit 1; }
echo "soak: $kills kills in $SECONDS s, nothing grew, nothing drifted"
