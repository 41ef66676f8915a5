# SPDX-License-Identifier: MIT
#
# A real systemd, booted in a container over the files of the machine that the test runs on; sourced by run.
#
#   boot ROOT-FUNCTION     boots it in about a second; the function gets the folder of the root before that
#   inside COMMAND...      runs a command in it as root, with an environment of its own and a time limit
#
# Nothing gets out: the root is an overlay whose upper layer is in memory, its mounts are in a namespace of their own, it
# has no network, and its first process dies with this script, whatever ends that. Nothing of the machine's own services
# is started in it.
#
# Machines whose process 1 is not systemd are the usual case here, containers among them; so the cgroups are made by
# hand. With cgroups of version 1 each controller is a hierarchy of its own, of which the container gets a folder.
#
# shellcheck shell=bash

controllers="memory pids cpu cpuacct devices"
root=       # of the container
leader=     # its process 1, as seen from here
supervisor= # what runs it
name=azpar-boot-$$

# Can containers be made here? Else says why not.
can_boot() {
        [ "$(id -u)" = 0 ] || { echo "needs root: boots a systemd in a container" && return 1; }
        command -v systemd-nspawn >/dev/null || { echo "needs systemd-container (make deps-check)" && return 1; }
        unshare --mount --pid --fork true 2>/dev/null || { echo "needs namespaces, which are refused here" && return 1; }
        unshare --mount sh -c 'mount -t tmpfs none /mnt && mkdir /mnt/u /mnt/w /mnt/r &&
                mount -t overlay none -o lowerdir=/,upperdir=/mnt/u,workdir=/mnt/w /mnt/r' 2>/dev/null ||
                { echo "needs overlay mounts, which are refused here" && return 1; }
}

# Folders of cgroups in which we may make some, one a line.
cgroup_folders() {
        local hierarchy own
        for hierarchy in systemd unified $controllers; do
                case $hierarchy in
                unified) own=$(sed -n 's/^0:://p' /proc/self/cgroup) ;;
                systemd) own=$(sed -n 's/^[0-9]*:name=systemd://p' /proc/self/cgroup) ;;
                *) own=$(awk -F: -v h="$hierarchy" '$2 ~ "(^|,)" h "(,|$)" { print $3 }' /proc/self/cgroup) ;;
                esac
                [ ! -d "/sys/fs/cgroup/$hierarchy$own" ] || echo "/sys/fs/cgroup/$hierarchy${own%/}"
        done
}

# Ours and those of tests that were killed. Page cache keeps a memory cgroup of version 1 alive unless it is emptied.
remove_cgroups() {
        local folder group
        for folder in $(cgroup_folders); do
                for group in "$folder"/azpar-boot-*; do
                        [ -d "$group" ] || continue
                        [ "${group##*-}" = $$ ] || ! kill -0 "${group##*-}" 2>/dev/null || continue
                        [ ! -e "$group/memory.force_empty" ] ||
                                find "$group" -depth -name memory.force_empty -exec sh -c 'echo 0 >"$1"' - {} \; 2>/dev/null || true
                        find "$group" -depth -type d -exec rmdir {} \; 2>/dev/null || true
                done
        done
}

cgroups_are_gone() {
        local folder
        remove_cgroups
        for folder in $(cgroup_folders); do [ ! -d "$folder/$name" ] || return 1; done
}

# To be called however the test ends.
shut_down() {
        if [ -n "$leader" ]; then
                kill -KILL "$leader" 2>/dev/null || true # all in it die with it
        elif [ -n "$supervisor" ]; then
                kill -KILL "$supervisor" 2>/dev/null || true
        fi
        [ -z "$supervisor" ] || wait "$supervisor" 2>/dev/null || true
        leader='' supervisor=''
        for _ in $(seq 50); do
                ! cgroups_are_gone || break
                sleep 0.02
        done
        [ -z "$root" ] || umount -l "$root" 2>/dev/null || true
}

inside() {
        timeout --kill-after=5 "${limit:-90}" nsenter -t "$leader" -a -- \
                env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 "$@"
}

build_root() { # FOLDER, a tmpfs of our own
        mkdir "$1/upper" "$1/work" "$1/root"
        mount -t overlay "$name" -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
        root=$1/root
        rm -rf "$root"/etc/systemd/system/*.wants "$root"/etc/rc?.d/* "$root"/usr/sbin/policy-rc.d "$root"/var/log/journal
        rm -f "$root/var/lib/man-db/auto-update" # dpkg need not index this machine's manual again
        : >"$root/etc/fstab"
        rm -f "$root/etc/machine-id"
        systemd-id128 new >"$root/etc/machine-id"
        printf '%s\n' '[Unit]' 'Requires=basic.target' 'Wants=dbus.service' 'After=basic.target dbus.service' \
                >"$root/etc/systemd/system/boot-test.target"
        # The first process makes the controllers that were handed over writable, then becomes systemd.
        cat >"$root/first" <<'END'
#!/bin/sh
for c in $controllers; do
        [ ! -d "/sys/fs/cgroup/$c" ] || mount -o remount,bind,rw,nosuid,nodev,noexec "/sys/fs/cgroup/$c"
done
unset controllers
exec /lib/systemd/systemd --unit=boot-test.target
END
        chmod 755 "$root/first"
}

child_of() { awk '{ print $1 }' "/proc/$1/task/$1/children" 2>/dev/null; }

has_leader() {
        kill -0 "$supervisor" 2>/dev/null || return 0 # and boot() finds that out
        leader=$(child_of "$(child_of "$supervisor")")
        [ -n "$leader" ] && [ -S "/proc/$leader/root/run/dbus/system_bus_socket" ]
}

start_container() { # FOLDER
        local folder
        for folder in $(cgroup_folders); do mkdir -p "$folder/$name" && echo "$BASHPID" >"$folder/$name/cgroup.procs"; done
        # A group counts as much as a single process outside of it; this one holds about ten that want to run.
        for folder in $(cgroup_folders); do [ ! -w "$folder/$name/cpu.shares" ] || echo 10240 >"$folder/$name/cpu.shares"; done
        # io_uring and what systemd needs are not in nspawn's own filter. --kill-child: nothing outlives a kill -9 of us.
        exec setpriv --pdeathsig KILL unshare --pid --fork --kill-child=KILL --mount-proc -- \
                systemd-nspawn --quiet --directory="$1/root" --machine="$name" --hostname=boot-test \
                --register=no --keep-unit --private-network --link-journal=no --resolv-conf=off --timezone=off \
                --kill-signal=SIGRTMIN+3 --setenv=controllers="$controllers" \
                --capability=CAP_IPC_LOCK,CAP_BPF,CAP_SYSLOG,CAP_PERFMON \
                --system-call-filter='@memlock bpf perf_event_open io_uring_setup io_uring_enter io_uring_register' \
                --tmpfs=/dev/shm:mode=1777,size=50% --tmpfs=/tmp:mode=1777,size=50% /first
}

boot() { # FUNCTION
        local folder=$tmp/container
        mkdir "$folder"
        mount -t tmpfs -o mode=755,size=60% "$name" "$folder"
        build_root "$folder"
        "$1" "$root"
        mkdir -p /run/systemd
        mount -t tmpfs -o mode=755 tmpfs /run/systemd # nspawn's locks: ours alone, like all mounts here
        remove_cgroups
        start_container "$folder" </dev/null >"$tmp/console" 2>&1 &
        supervisor=$!
        wait_for "the container has a process 1" has_leader
        kill -0 "$supervisor" 2>/dev/null || { leader='' && cat "$tmp/console" && fail "the container ended at once"; }
        wait_for "it is booted" inside systemctl -q is-active boot-test.target
}
