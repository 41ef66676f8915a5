#!/bin/bash
# SPDX-License-Identifier: MIT
# A disk that is full: at start a clear word; while training, degraded with the reason, intake and training go on, killed
# children come back, and once there is room so do checkpoints and publications, by themselves.  A stop meanwhile loses
# no sample.  A window that somebody cuts short is survived as well.
. tests/e2e/disk.sh

azpard=("$programs/azpard" --config "$config" --state "$state" --instance "$instance")

make_disk tmpfs 1
refused "no room for the replay window 'window.tmp': [0-9]+ bytes needed, [0-9]+ free; make room or lower replay.window" "${azpard[@]}"
[ ! -e "$state/window" ] && [ ! -e "$state/window.tmp" ] || fail "half a window was left"

for kind in tmpfs ext4; do
        make_disk $kind 24
        becomes_full
done

# Somebody cuts the window short, which is SIGBUS for who writes to it: samples wait, and get in when it has its size again.
start_azpard --set replay.window=5000
wait_until '.window.samples == 5000 and .state == "training"'
size=$(stat -c %s "$state/window")
truncate -s 4096 "$state/window"
wait_until '.state == "degraded" and .reason == "could not write the replay window: Input/output error"'
wait_until 'all(.workers[]; .state == "waiting")'
check 'all(.workers[]; .restarts == 0) and .trainer.restarts == 0'
inserted=$(q .window.inserted)
truncate -s "$size" "$state/window"
wait_until ".state != \"degraded\" and .window.inserted > $inserted + 7500" # all that was cut off has left the window
check '.intake.bad_records == 0 and .intake.lanes_reset == 0'
grep -q 'replay window: writing works again' "$log" || fail "azpard does not say that it works again"
ctl pause
wait_until 'all(.workers[]; .state == "paused" and .lane_used == 0)'
audit
stop_azpard
