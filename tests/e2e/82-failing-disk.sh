#!/bin/bash
# SPDX-License-Identifier: MIT
# A disk that gives EIO for whatever is written: degraded with the reason, workers wait, nobody exits.  When it works again
# so does azpar, by itself, with all samples on the disk; azpard that is stopped before that keeps what the disk did not
# take, and the next one brings it there.
. tests/e2e/disk.sh

# EIO, and the disk works again.
make_failing_disk -O ^has_journal
# What the disk refused may also have been an inode: as everybody would, look over the file system first.
mount_again() {
        e2fsck -fy "/dev/$zram" >"$tmp/e2fsck" 2>&1 || [ $? -le 2 ] || fail "e2fsck: $(cat "$tmp/e2fsck")"
        mount "/dev/$zram" "$state"
}
start_roomy
wait_until '.state == "training" and .checkpoint.step > 0'
fail_disk
wait_until '.state == "degraded" and (.reason | test("could not sync the replay window: Input/output error"))'
is_waiting
inserted=$(q .window.inserted) durable=$(q .window.durable) saved=$(q .checkpoint.step)
[ "$durable" -lt "$inserted" ] || fail "no sample waits for the disk: this tests nothing"
victim=$(q '.workers[0].pid')
kill -KILL "$victim"
wait_until '.workers[0].last_exit | test("not started: no incarnation: Input/output error")'
check ".state == \"degraded\" and .window.inserted == $inserted and .window.durable == $durable"
check '.workers[1].restarts == 0 and .trainer.restarts == 0 and .workers[0].state != "parked"'
mend_disk
wait_until ".state == \"training\" and .window.durable > $inserted and .checkpoint.step > $saved and .workers[0].games > 0"
grep -q 'replay window: syncing works again' "$log" || fail "azpard does not say that it works again"
settle
stop_azpard
umount "$state"
mount_again
audit

# EIO until azpard is stopped: the file system is unmounted, and the disk works when it is mounted again.
start_roomy
wait_until '.state == "training"'
fail_disk
wait_until '.state == "degraded"'
is_waiting
inserted=$(q .window.inserted)
[ "$(q .window.durable)" -lt "$inserted" ] || fail "no sample waits for the disk: this tests nothing"
stop_degraded
umount "$state"
mend_disk
mount_again
goes_on "$inserted"
