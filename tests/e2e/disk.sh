# SPDX-License-Identifier: MIT
#
# For end-to-end tests about disk trouble: real file systems of their own, as the state directory of lib.sh, which this
# sources.  To be sourced first: the test starts itself again with mounts of its own, which vanish with its last
# process however that ends, and loop devices with them.
#
# shellcheck shell=bash disable=SC2034
if [ -z "${AZPAR_OWN_MOUNTS-}" ]; then
        [ "$(id -u)" = 0 ] || { echo "needs root: mounts file systems" && exit 77; }
        unshare -m true 2>/dev/null || { echo "this system gives nobody mounts of their own (unshare -m)" && exit 77; }
        AZPAR_OWN_MOUNTS=1 exec unshare -m --propagation private "$0" "$@"
fi
. tests/e2e/lib.sh

# A worker that ends with games for a disk that does not take them leaves a gap as well.
no_spilling
zram=

# need_tool PROGRAM PACKAGE
need_tool() { command -v "$1" >/dev/null || skip "needs $1 (Debian package $2)"; }

# make_disk KIND MEGABYTES [MKFS OPTION]...: a new file system on $state, of which all is free for us.
make_disk() {
        local kind=$1 size=$2
        shift 2
        drop_disk
        mkdir -p "$state"
        case $kind in
        tmpfs) mount -t tmpfs -o "size=${size}m,mode=750" tmpfs "$state" || skip "no tmpfs can be mounted" ;;
        *)
                rm -f "$tmp/image"
                truncate -s "${size}M" "$tmp/image"
                format "$kind" "$tmp/image" "$@"
                mount -o loop "$tmp/image" "$state" || skip "no loop device, or the kernel has no $kind"
                ;;
        esac
}

format() { # KIND DEVICE [OPTION]...
        local kind=$1 device=$2
        shift 2
        case $kind in
        ext4) need_tool mkfs.ext4 e2fsprogs && mkfs.ext4 -q -F -m 0 "$@" "$device" ;;
        xfs) need_tool mkfs.xfs xfsprogs && mkfs.xfs -q -f "$@" "$device" ;;
        btrfs) need_tool mkfs.btrfs btrfs-progs && mkfs.btrfs -q -f "$@" "$device" >/dev/null ;;
        esac
}

# make_failing_disk [MKFS OPTION]...: ext4 on a device that fail_disk lets fail with EIO and mend_disk work again: zram,
# which refuses to store anything new while its limit of memory is below what it uses.
make_failing_disk() {
        local n
        [ -w /sys/class/zram-control/hot_add ] || [ -r /sys/class/zram-control/hot_add ] || skip "the kernel has no zram, and so no disk that can fail"
        drop_disk
        n=$(cat /sys/class/zram-control/hot_add) || skip "no zram device can be had"
        zram=zram$n
        [ -b "/dev/$zram" ] || wait_for "/dev/$zram appears" test -b "/dev/$zram"
        echo 200M >"/sys/block/$zram/disksize"
        format ext4 "/dev/$zram" "$@"
        mkdir -p "$state"
        mount "/dev/$zram" "$state" || skip "ext4 on zram cannot be mounted"
}
fail_disk() { echo 4K >"/sys/block/$zram/mem_limit"; }
mend_disk() { echo 0 >"/sys/block/$zram/mem_limit"; }

# drop_disk: unmount what make_disk mounted; who holds it must be gone.
drop_disk() {
        local i
        for i in {1..100}; do # killed children may take a moment
                ! mountpoint -q "$state" || umount "$state" 2>/dev/null || { sleep 0.1 && continue; }
                break
        done
        if [ -n "$zram" ]; then
                echo 1 >"/sys/block/$zram/reset"
                echo "${zram#zram}" >/sys/class/zram-control/hot_remove
                zram=
        fi
}

# fill_disk: until nothing more fits; empty_disk gives it back.  What somebody else removes later has to be filled, too.
fill_disk() {
        dd if=/dev/zero of="$state/ballast" bs=4k oflag=append conv=notrunc 2>/dev/null || true
}
# fills_until CONDITION: keeps the disk full until it is true of the status.  Filled only once, the disk could end with as much
# room as the trainer needs, which was saving at that moment and then removed an old or an unfinished checkpoint.
is_full_and() { fill_disk && holds "$1"; }
fills_until() { wait_for "$1, the disk being full" is_full_and "$1"; }
empty_disk() { rm -f "$state/ballast"; }

# ---- what the tests of failing disks do: mount_again is theirs ----

start_roomy() { start_azpard --set replay.window=600000 --set replay.sync_interval=0.5 "$@"; } # all of a test stays in the window
is_waiting() { wait_until 'all(.workers[] | select(.pid); .state == "waiting")'; }
settle() { # nothing is played or on its way any more
        ctl pause
        wait_until 'all(.workers[]; .state == "paused" and .lane_used == 0) and .window.durable == .window.inserted'
}

# stop_degraded: azpard says that it could not do all, and leaves what the disk did not take.
stop_degraded() {
        local result=0
        ctl stop
        wait "$azpard_pid" || result=$?
        azpard_pid=
        [ "$result" = 1 ] || fail "azpard's exit status is $result, not 1"
        [ -e "/dev/shm/azpar.$instance" ] || fail "the shared memory with the samples is gone"
        grep -q "stay in /dev/shm/azpar.$instance for the next start" "$log" || fail "azpard does not say where the samples are"
}

# goes_on INSERTED: the next azpard has all of them, and works.
goes_on() {
        local n
        n=$(samples_in_lanes)
        start_roomy
        echo "had $1 samples and $n bytes in lanes: $(q .window.inserted)"
        check ".window.inserted >= $1 and .intake.lanes_reset == 0 and .intake.bad_records == 0"
        [ "$n" = 0 ] || check ".window.inserted > $1"
        wait_until ".window.inserted > $1 + 1000 and .state == \"training\""
        settle
        stop_azpard
        [ -z "$(find /dev/shm -name "azpar.$instance*")" ] || fail "left in /dev/shm: $(ls /dev/shm)"
        umount "$state" # so that the audit reads the disk, not memory
        mount_again
        audit
}
samples_in_lanes() { sed -n 's/^.* \([0-9]*\) bytes of samples stay in .*/\1/p' "$log" | tail -n 1; }

# nothing_is_written: nor is anything published or saved while the trainer makes steps enough for two publications, which are
# smaller than a checkpoint.  Leaves $saved and $generation as they are then.
nothing_is_written() {
        local step
        fill_disk
        saved=$(q .checkpoint.step) generation=$(q .generation) step=$(q .step)
        wait_until ".step > $step + 50"
        holds ".generation == $generation and .checkpoint.step == $saved"
}

# becomes_full: a disk that has room runs out of it while training, and gets it back; then once more, until azpard is stopped.
becomes_full() {
        local inserted step saved generation
        start_azpard
        wait_until '.state == "training" and .checkpoint.step > 0'
        fills_until '.state == "degraded" and (.reason | test("could not save: No space left on device"))'
        wait_for "the disk has no room for anything" nothing_is_written
        inserted=$(q .window.inserted) step=$(q .step)
        # both go on; the trainer may be held back by the limiter only
        wait_until ".window.inserted > $inserted + 500 and .step > $step + 50"
        check ".state == \"degraded\" and .generation == $generation and .checkpoint.step == $saved"
        check 'all(.workers[]; .restarts == 0) and .trainer.restarts == 0 and .window.damaged == 0'
        kill -KILL "$(q '.workers[0].pid')"
        wait_until '.workers[0].restarts == 1 and .workers[0].games > 0'
        empty_disk
        wait_until ".state != \"degraded\" and .checkpoint.step > $saved and .generation > $generation"
        wait_for "somebody says that it works again" grep -q 'saving works again' "$log"

        # Stopped while the disk is full: the trainer cannot save, but no sample is lost.
        fills_until '.state == "degraded"'
        inserted=$(q .window.inserted)
        stop_azpard
        empty_disk
        start_azpard
        check ".window.inserted >= $inserted"
        wait_until '.state == "training"'
        stop_azpard
        audit
        [ ! -e "/dev/shm/azpar.$instance" ] || fail "the shared memory was left behind"
}
