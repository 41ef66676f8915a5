#!/bin/bash
# SPDX-License-Identifier: MIT
# A file system that becomes read-only under azpard, as the kernel does it after an error: degraded with the reason, workers
# wait, nobody exits.  It must be unmounted to be mended, so azpard is stopped; it keeps what the disk did not take, and
# the next one brings it there.
. tests/e2e/disk.sh

mount_again() { mount -o loop "$tmp/image" "$state"; }

# meets REASON TROUBLE...: the command makes the file system on $state fail.
meets() {
        local reason=$1 inserted
        shift
        wait_until '.state == "training" and .checkpoint.step > 0'
        ! mount -o remount,ro "$state" 2>/dev/null || fail "remount,ro went through although azpard has the window open for writing"
        "$@" || skip "this kernel does not let us: $*"
        wait_until ".state == \"degraded\" and .reason == \"$reason\""
        is_waiting
        status | jq -c '[.state, .reason, .window.inserted, .window.durable]'
        inserted=$(q .window.inserted)
        check 'all(.workers[]; .restarts == 0) and .trainer.restarts == 0'
        stop_degraded
        umount "$state"
        ! command -v "fsck.$kind" >/dev/null || fsck.$kind -p "$tmp/image" >/dev/null || [ $? -le 2 ] || fail "fsck could not mend it"
        mount_again
        goes_on "$inserted"
}

# After an error of its journal ext4 lets the mapping be written, but nothing of it reaches the disk.
kind=ext4
make_disk $kind 150
start_roomy
meets "could not sync the replay window: Read-only file system" mount -o remount,abort "$state"

# XFS that was shut down lets nobody write it: SIGBUS, long before the next sync. XFS_IOC_GOINGDOWN, without a log flush.
kind=xfs
if ! command -v mkfs.xfs >/dev/null || ! grep -qw xfs /proc/filesystems; then
        echo "without XFS: no mkfs.xfs (Debian package xfsprogs), or not in this kernel"
        exit 0
fi
shut_down() { perl -e 'my $f = pack("L", 2); open(D, "<", $ARGV[0]) && ioctl(D, 0x8004587d, $f) or exit 1' "$state"; }
make_disk $kind 350
start_roomy --set replay.sync_interval=3600
meets "could not write the replay window: Input/output error" shut_down
