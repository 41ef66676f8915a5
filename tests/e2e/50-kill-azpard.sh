#!/bin/bash
# SPDX-License-Identifier: MIT
# azpard is killed with SIGKILL under load, again and again.  Its successor goes on: what was in the window stays, what
# lay in the lanes is taken in, what was in both is recognised; no lane is stuck, and step and generation are resumed.
. tests/e2e/lib.sh

lane_bytes=1048576
stride=$((4096 + lane_bytes))
segment=/dev/shm/azpar.$instance
word() { od -A n -t u8 -j "$1" -N 8 "$segment" | tr -d ' '; }          # OFFSET: of the segment
tail_of() { word $((8192 + $1 * stride)); }                             # SLOT: bytes ever committed to its lane
head_of() { word $((8192 + $1 * stride + 64)); }                        # SLOT: bytes ever taken from it
lane_holds() { [ $(($(tail_of "$1") - $(head_of "$1"))) -gt "$2" ]; } # SLOT BYTES
# With so many simulations a lane takes half a minute to fill, so none of them is full before we have looked at it.
begin() {
        start_azpard --set service.lane_bytes=$lane_bytes --set search.simulations=800
        check ".window.inserted >= $seen"
        check '.intake.bad_records == 0 and .intake.lanes_reset == 0 and .window.damaged == 0'
}

no_spilling
seen=0
begin
wait_until '.checkpoint.step > 0 and all(.workers[]; .games > 0)'

# Killed at random moments, with all lanes busy.
for round in 1 2 3 4 5 6; do
        seen=$(q .window.inserted) step=$(q .checkpoint.step) generation=$(q .generation)
        children=$(q '.workers[].pid, .trainer.pid')
        kill_azpard
        begin
        # shellcheck disable=SC2086
        is_gone $children || fail "children outlived their azpard, or it did not wait for them"
        check ".step >= $step and .generation >= $generation"
        wait_until ".window.inserted > $seen and all(.workers[]; .games > 0)"
done
wait_until ".step > $step and .generation > $generation"

# Killed while the lanes hold much: the successor takes it in.
seen=$(q .window.inserted)
kill -STOP "$azpard_pid"
wait_for "lane 0 holds something" lane_holds 0 20000
wait_for "lane 1 holds something" lane_holds 1 20000
kill_azpard
begin
check ".window.inserted > $seen + 100"
grep -qE 'took (over )?[1-9][0-9]* samples' "$log" || fail "azpard does not say that it took samples over"
seen=$(q .window.inserted)

# Killed between inserting records and giving their space back: forged by turning the lane's head back to where it was,
# which is what such a kill leaves behind.
wait_until 'all(.workers[]; .games > 0)'
ctl pause
wait_until 'all(.workers[]; .state == "paused" and .lane_used == 0)'
head=$(head_of 0)
ctl resume
wait_for "lane 0 has moved" eval '[ "$(head_of 0)" -gt $((head + 5000)) ]'
ctl pause
wait_until 'all(.workers[]; .state == "paused" and .lane_used == 0)'
again=$(($(tail_of 0) - head))
[ "$again" -lt "$lane_bytes" ] || fail "the lane was overwritten meanwhile: $again bytes"
seen=$(q .window.inserted)
kill_azpard
for shift in 0 8 16 24 32 40 48 56; do # the head, little-endian
        printf "\\x$(printf %02x $((head >> shift & 255)))"
done | dd of="$segment" bs=1 seek=$((8192 + 64)) conv=notrunc status=none
[ "$(head_of 0)" = "$head" ] || fail "could not turn the head back"
begin
check '.intake.duplicates > 0'
wait_until ".window.inserted > $seen and all(.workers[]; .games > 0)"

ctl pause
wait_until 'all(.workers[]; .state == "paused" and .lane_used == 0)'
audit

# Killed, and the window is moved away: what the lanes hold comes into the new one.
ctl resume
wait_until 'all(.workers[]; .games > 0 and .state != "paused")'
kill -STOP "$azpard_pid"
wait_for "lane 0 holds something" lane_holds 0 20000
kill_azpard
mv "$state/window" "$tmp/window"
seen=100
begin
wait_until ".window.inserted > $seen and all(.workers[]; .games > 0)"
stop_azpard
[ ! -e "$segment" ] || fail "the shared memory was left behind"
