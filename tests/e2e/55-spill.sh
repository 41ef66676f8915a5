#!/bin/bash
# SPDX-License-Identifier: MIT
# azpard stands still, and the workers do not: what their lanes cannot hold goes to spill files.  Afterwards, or after
# azpard was killed, each of those samples is in the window once, and the files are gone.  A damaged file is set aside, a
# file of another program is taken in once, and at the limit workers wait.
. tests/e2e/lib.sh

spill=$state/spill
n_files() { find "$spill" -path '*/worker_*/batch_*.json' | wc -l; }
has_files() { [ "$(n_files)" -ge "$1" ]; }
are_taken() { [ "$(n_files)" = 0 ] && holds '.spill.files == 0 and .spill.reading == null'; }
nothing_waits() { wait_for "all spilled files are taken in" are_taken; }
begin() { start_azpard --set service.spill_after=0.1 --set replay.window=2000000 "$@"; }
stand_still() { # NUMBER of files
        kill -STOP "$azpard_pid"
        wait_for "$1 files are spilled" has_files "$1"
}

begin
wait_until 'all(.workers[]; .games > 0)'
check '.spill.files == 0 and .spill.spilled_samples == 0'
stand_still 6
# of any worker: one may have written all of them before the other's lane was full
find "$spill" -path '*/worker_*/batch_*.json' -exec jq -e 'length > 5 and all(.[]; (.board | length) == 27 and
        (.policy | length) == 9 and (.policy | add) > 0.999 and (.policy | add) < 1.001 and
        (.value | . == -1 or . == 0 or . == 1))' {} + >"$tmp/format" || fail "that is not the original's format"
[ "$(sort -u "$tmp/format")" = true ] || fail "that is not the original's format: $(cat "$tmp/format")"
kill -CONT "$azpard_pid"
nothing_waits
wait_until '.spill.spilled_samples > 0 and .spill.taken_samples >= .spill.spilled_samples'
check '.spill.rejected == 0 and .spill.duplicates == 0 and .state != "degraded"'
wait_until 'all(.workers[]; .state == "playing")'

# Killed with files waiting, and with its workers in the middle of one.
stand_still 8
kill_azpard
has_files 8 || fail "files are gone"
begin
nothing_waits
[ -z "$(find "$spill" -name '*.tmp')" ] || fail "half-written files are left"

# Killed while it takes files in: what it had inserted and not removed is recognised.
for round in 1 2 3; do
        stand_still 20
        kill -CONT "$azpard_pid"
        wait_until '.spill.taken_samples > 0'
        kill_azpard
        begin
        nothing_waits
done
stop_azpard
find "$spill" -name 'batch_*.json' | grep . && fail "files are left"
result=$("$helpers/audit" "$config" "$state/window")
echo "audit: $result"
# A killed worker's unfinished file leaves a gap where its lane was faster; a kill never makes a sample come twice.
jq -e '.spilled > 100 and .twice == 0' <<<"$result" >/dev/null || fail "the window is not whole"

# What is no batch file is set aside with the reason; what comes after it in the same folder is taken in.
mkdir -p "$spill/worker_0"
good='[{"board":[1,0,0,0,0,0,0,0,0,0,0,0,0,1,0,0,0,0,1,1,1,1,1,1,1,1,1],"policy":[0,0.25,0,0,0,0,0,0,0.75],"value":-1}]'
echo "$good" >"$spill/worker_0/batch_000001.json"
printf '[{"board":[1,0,' >"$spill/worker_0/batch_000000.json"
echo "$good" | tr 1 2 >"$spill/worker_0/batch_000002.json"
echo "$good" >"$spill/worker_0/batch_000003.json" # the same once more
begin
ctl pause
nothing_waits
check '.spill.rejected == 2 and .spill.taken_samples == 1 and .spill.duplicates == 1'
grep -q 'byte' "$spill/rejected/worker_0-batch_000000.json.reason" || fail "the reason does not say where"
grep -q '0 or 1' "$spill/rejected/worker_0-batch_000002.json.reason" || fail "the reason does not say why"
[ "$(cat "$spill/rejected/worker_0-batch_000000.json")" = '[{"board":[1,0,' ] || fail "the file was changed"
[ "$(n_files)" = 0 ] || fail "files are left"
stop_azpard

# At the limit workers wait, and the status says so; with room again, all goes on by itself.
begin --set service.spill_max=60000
wait_until 'all(.workers[]; .games > 0)'
kill -STOP "$azpard_pid"
segment=/dev/shm/azpar.$instance
words() { # OFFSET VALUE: do the words there of struct segment_worker of both workers match VALUE (a pattern)?
        local slot
        for slot in 0 1; do
                # shellcheck disable=SC2053
                [[ $(od -A n -t u4 -j $((8192 + slot * (4096 + 65536) + $1)) -N 4 "$segment" | tr -d ' ') == $2 ]] || return 1
        done
}
waits_at_limit() { words 144 2 && words 524 1; } # state: WORKER_WAITING; spill_full
waits_for_disk() { words 144 2 && words 520 '[1-9]*'; } # ... ; spill_errno
wait_for "both workers wait at the limit" waits_at_limit
for slot in 0 1; do # half of it for each of the two, and then no file is begun
        find "$spill/worker_$slot" -name 'batch_*.json' -printf '%f %s\n' | sort | head -n -1 |
                awk '{ n += $2 } END { exit n >= 30000 }' || fail "worker $slot wrote more than its share of service.spill_max"
done
kill -CONT "$azpard_pid"
nothing_waits
wait_until 'all(.workers[]; .state == "playing") and .state != "degraded"'
stop_azpard

# A folder that cannot be made: degraded with the reason, and workers wait; then it can.
rm -rf "$spill"
echo >"$spill"
begin
wait_until 'all(.workers[]; .games > 0)'
kill -STOP "$azpard_pid"
wait_for "both workers wait for the disk" waits_for_disk
kill -CONT "$azpard_pid"
wait_for "the status says why" holds '.state == "degraded" and (.reason | contains("spill"))'
rm "$spill"
wait_until '.state != "degraded" and all(.workers[]; .state == "playing")'
stop_azpard

# Where the kernel refuses io_uring, all of that works by plain calls, after one warning of each process.
rm -rf "$state"
: >"$log"
run_azpard="$helpers/without uring"
begin
run_azpard=
check '.disk.io_uring == false'
wait_until 'all(.workers[]; .games > 0) and .window.durable > 0'
stand_still 6
kill -CONT "$azpard_pid"
nothing_waits
check '.spill.rejected == 0 and .spill.taken_samples > 0'
stop_azpard
for who in azpard azpar-worker; do
        n=$(grep -c "^$who: .*io_uring is not available" "$log") || true
        [ "$n" = $([ $who = azpard ] && echo 1 || echo 2) ] || fail "$who warned $n times: $(grep io_uring "$log")"
done
# What a worker spilled at its end lies in a file until the next start.
start_azpard --set replay.window=2000000 --set service.spill_max=0
nothing_waits
stop_azpard
audit
