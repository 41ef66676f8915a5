# SPDX-License-Identifier: MIT
#
# The checks of the boot test, in the order in which run calls them; each goes on where the one before it ended.
#
# shellcheck shell=bash

# ---- installation ----

# The same package with a higher version, to upgrade to.
repack() {
        dpkg-deb --raw-extract "$package" "$tmp/newer"
        sed -i 's/^Version: .*/&+newer/' "$tmp/newer/DEBIAN/control"
        dpkg-deb --root-owner-group -Znone --build "$tmp/newer" "$tmp/newer.deb" >/dev/null
        rm -rf "$tmp/newer"
}

prepare() { # ROOT
        mkdir "$1/opt/boot-test"
        install -m 755 "$build/tests/boot/ledger" "$1/opt/boot-test/ledger"
        cp "$package" "$1/opt/boot-test/azpar.deb"
        cp "$tmp/newer.deb" "$1/opt/boot-test/newer.deb"
}

install_package() { # FILE
        inside dpkg -i "/opt/boot-test/$1" >"$tmp/dpkg" 2>&1 || { cat "$tmp/dpkg" && fail "dpkg -i $1"; }
}

test_install() {
        local file
        # One that is installed on this machine is not the one to be tested.
        ! inside dpkg-query -W azpar >/dev/null 2>&1 || inside dpkg --purge azpar >/dev/null 2>&1
        install_package azpar.deb
        check_is ActiveState inactive
        [ "$(inside systemctl is-enabled azpar.service azpar.socket | tr '\n' ' ')" = "disabled disabled " ] ||
                fail "the package enables something"
        inside useradd -M -G azpar member
        inside useradd -M stranger
        for file in azpar.service azpar@x.service azpar.socket azpar@x.socket azpar.slice; do
                # It exits with 0 also where it has something to say.
                inside systemd-analyze verify "$file" >"$tmp/verify" 2>&1 || fail "$file: $(cat "$tmp/verify")"
                [ ! -s "$tmp/verify" ] || fail "$file: $(cat "$tmp/verify")"
        done
        for file in azpar.service azpar@x.service; do
                inside systemd-analyze security --threshold=15 --no-pager "$file" >"$tmp/security" ||
                        fail "$(tail -n 1 "$tmp/security")"
        done
        step "installed, nothing started; units verified; $(sed -n 's/.*Overall/overall/p' "$tmp/security")"
}

# ---- as it is after the installation, no file edited ----

test_first_start() {
        local begin
        begin=$(date +%s%3N)
        inside systemctl start azpar
        step "started, no file edited: systemctl returned after $(($(date +%s%3N) - begin)) ms"
        check_is ActiveState active
        check '.generation >= 1 and ([.workers[] | select(.pid)] | length) > 0'
        wait_until '.totals.evaluations > 0'
        wait_for "the status text says something" eval '[[ $(show StatusText) == *generation* ]]'
        check '.disk.io_uring' # tests/e2e/55-spill.sh has it otherwise, and the status says so
        exists /dev/shm/azpar.default || fail "no shared memory"
        step "status text: $(show StatusText)"
}

test_clients() {
        local command
        as member azparctl status >/dev/null || fail "a member of the group may not look"
        for command in "workers 1" pause resume checkpoint stop; do
                # shellcheck disable=SC2086
                refused "for root and" as member azparctl $command
        done
        refused "for azpard's user and group" as stranger azparctl status
        check '.state != "paused" and .state != "stopping"'
        ctl pause
        wait_until '.state == "paused"'
        ctl resume
        [ "$(inside stat -c '%a %U %G' /run/azpar/default.sock)" = "660 azpar azpar" ] || fail "the socket's mode"
        echo '{"command":"version"}' | inside socat -t 5 - UNIX-CONNECT:/run/azpar/default.sock | jq -e .ok >/dev/null ||
                fail "no answer to socat"
        step "root, a member of the group, a stranger; socat"
}

# In the namespaces of the service, but as root: what root cannot do there its own user cannot either.
in_service() { inside nsenter -t "$(main_pid)" -m -n -- "$@"; }

test_confinement() {
        local pid folder
        for folder in /usr /etc /etc/azpar /var/lib /var/lib/azpar; do
                refused "Read-only" in_service touch "$folder/probe"
        done
        in_service touch /var/lib/azpar/default/probe # so it is not touch that fails
        in_service rm /var/lib/azpar/default/probe
        [ "$(in_service grep -c : /proc/net/dev)" = 1 ] || fail "more than one network device"
        # Block devices, memory and the like; a shell of the container has some of them.
        [ "$(in_service find /dev -type b -o -name kmsg -o -name mem -o -name fuse | wc -l)" = 0 ] || fail "devices"
        for pid in $(main_pid) $(q '.workers[].pid, .trainer.pid | values'); do
                inside cat "/proc/$pid/status" >"$tmp/status"
                [ "$(sed -n 's/^Uid:\t\([0-9]*\).*/\1/p' "$tmp/status")" = "$(inside id -u azpar)" ] || fail "$pid: not azpar"
                grep -qxP 'NoNewPrivs:\t1' "$tmp/status" || fail "$pid: may get new privileges"
                grep -qxP 'Seccomp:\t2' "$tmp/status" || fail "$pid: has no system-call filter"
                grep -qxP 'CapBnd:\t0*' "$tmp/status" || fail "$pid: has capabilities"
                [ "$pid" = "$(main_pid)" ] || [ "$(inside cut -d' ' -f19 "/proc/$pid/stat")" = 5 ] || fail "$pid: does not give way to azpard"
                inside grep -q '/azpar.slice/azpar.service$' "/proc/$pid/cgroup" || fail "$pid: $(inside cat "/proc/$pid/cgroup")"
        done
        step "read-only, no network, no devices, no rights; all children in the slice"
}

test_limits() {
        local memory half
        half=$(($(sed -n 's/^MemTotal: *\([0-9]*\) kB/\1/p' /proc/meminfo) * 512))
        inside grep -q '^Max open files *16384 ' "/proc/$(main_pid)/limits" || fail "descriptors"
        memory=$(cgroup azpar.slice/memory.limit_in_bytes azpar.slice/memory.max) ||
                { step "limits: descriptors; this machine's cgroups cannot be handed over" && return 0; }
        [ "$memory" -gt "$half" ] && [ "$memory" -lt $((2 * half)) ] || fail "memory: $memory bytes"
        [ "$(cgroup azpar.slice/azpar.service/pids.max azpar.slice/azpar.service/pids.max)" = 4096 ] || fail "tasks"
        [ "$(cgroup azpar.slice/cpu.shares azpar.slice/cpu.weight)" -lt "$(cgroup system.slice/cpu.shares system.slice/cpu.weight)" ] ||
                fail "self-play gives way to nobody"
        step "limits: descriptors, memory ($((memory >> 20)) MiB), tasks, weight"
}

test_stop_under_load() {
        local begin
        wait_until '.totals.evaluations > 100'
        begin=$(date +%s%3N)
        inside systemctl stop azpar
        step "stopped under load: systemctl returned after $(($(date +%s%3N) - begin)) ms"
        check_is ActiveState inactive
        check_is Result success # not killed for taking too long
        nobody_there
        check_is ActiveState inactive
        ! exists /dev/shm/azpar.default || fail "the shared memory was left behind"
}

# ---- small and fast from here on ----

# Tictactoe with a tiny network. The window holds all samples of this test.
use_small_conf() {
        inside rm -rf /var/lib/azpar/default
        inside mkdir -p /etc/azpar/azpar.conf.d
        inside tee /etc/azpar/azpar.conf.d/test.conf >/dev/null <<'END'
[game]
name = tictactoe
[network]
filters = 8
blocks = 1
[search]
simulations = 8
[selfplay]
workers = 2
games = 4
[replay]
window = 1000000
min_samples = 300
slack = 2000
[train]
batch = 32
publish_interval = 25
checkpoint_interval = 200
END
}

test_wrong_configuration() {
        echo nonsense | inside tee /etc/azpar/azpar.conf.d/wrong.conf >/dev/null
        refused "failed" inside systemctl start azpar
        check_is ExecMainStatus 78
        check_is NRestarts 0
        check_is SubState failed # not auto-restart
        nobody_there
        inside rm /etc/azpar/azpar.conf.d/wrong.conf
        start_again
        trains
        ctl stop
        wait_for "azpar has stopped" is ActiveState inactive
        nobody_there
        check_is ActiveState inactive
        step "a wrong configuration is not tried again; azparctl stop is not undone by a look"
}

test_activation() {
        inside systemctl start azpar.socket
        check_is ActiveState inactive
        [ "$(inside stat -c '%a %U %G' /run/azpar/default.sock)" = "660 azpar azpar" ] || fail "the socket's mode"
        refused "for azpard's user and group" as stranger azparctl status
        check_is ActiveState inactive
        as member azparctl version >/dev/null || true # its patience may be shorter than a start
        wait_for "the look has started it" is ActiveState active
        trains
        inside systemctl stop azpar
        # systemctl waits for the service alone
        wait_for "the socket has stopped, too" eval '! inside systemctl -q is-active azpar.socket'
        nobody_there
        check_is ActiveState inactive
        inside systemctl start azpar.socket
        start_again
        trains
        step "socket activation: a look starts it, stop stops both"
}

# The message id of an event, and its newest entry in the unit's journal as JSON.
event() { sed -n "s/^X($1, [A-Z]*, \"\([0-9a-f]*\)\".*/\1/p" common/base/log_events.inc; }
entry() { inside journalctl -u "$unit" -o json -n 1 --no-pager "MESSAGE_ID=$(event "$1")"; }
entry_has() { entry "$1" >"$tmp/entry" && cat "$tmp/entry" && jq -e "$2" "$tmp/entry"; } # EVENT JQ-EXPRESSION
check_entry() { wait_for "the journal's newest $1 is '$2'" entry_has "$1" "$2"; } # journald may not have written it yet

test_journal() {
        check_entry STARTED '.AZPAR_INSTANCE == "default" and ._SYSTEMD_UNIT == "azpar.service" and .PRIORITY == "5"'
        check_entry READY '(.AZPAR_GENERATION | tonumber) > 0 and .AZPAR_INSTANCE == "default"'
        ctl pause
        check_entry COMMAND '.AZPAR_COMMAND == "pause" and .AZPAR_CLIENT_UID == "0"'
        ctl resume
        trains
        inside kill -KILL "$(q '.workers[1].pid')"
        check_entry CHILD_CRASHED '.AZPAR_WORKER == "1" and .AZPAR_INSTANCE == "default" and (.AZPAR_REASON | test("signal 9"))'
        trains
        # The package brings explanations, and systemd's trigger made them known.
        inside journalctl --no-pager --list-catalog "$(event CHILD_CRASHED)" >"$tmp/catalog" || fail "no catalog entry"
        [ "$(wc -l <"$tmp/catalog")" = 1 ] || fail "no catalog entry of CHILD_CRASHED: $(cat "$tmp/catalog")"
        step "journal: fields, message ids, catalog"
}

test_reload() {
        local pid workers
        pid=$(main_pid) workers=$(q '[.workers[].pid] | tojson')
        printf '%s\n' '[search]' 'simulations = 12' | inside tee /etc/azpar/azpar.conf.d/z.conf >/dev/null
        inside systemctl reload azpar
        check_is ActiveState active
        check_is ExecMainPID "$pid"
        must_say 'search.simulations: 8 -> 12'
        wait_until "[.workers[].pid] | all(. != null and ([.] | inside($workers) | not))"
        echo nonsense | inside tee /etc/azpar/azpar.conf.d/z.conf >/dev/null
        refused "failed" inside systemctl reload azpar
        check_is ActiveState active
        check_is ExecMainPID "$pid"
        must_say 'azpar.conf.d/z.conf:1: '
        inside rm /etc/azpar/azpar.conf.d/z.conf
        inside systemctl reload azpar
        must_say 'search.simulations: 12 -> 8' # so the refused configuration has changed nothing
        trains
        step "reload: taken up, refused, taken up"
}

# ---- crashes ----

# The ledger of the copy /dev/shm/azpar.ledger, compared with WINDOW ("": with none). In the service's namespaces, since
# the boot's identity in /proc is that of the container outside of them, and the machine's in them.
ledger() { in_service /opt/boot-test/ledger /etc/azpar/azpar.conf /var/lib/azpar/default "$1" ledger; }
copy_segment() { in_service cp "/proc/$(main_pid)/fd/$segment_fd" /dev/shm/azpar.ledger; }
lanes_hold() { copy_segment && ledger "" >"$tmp/held" && [ "$(jq .committed "$tmp/held")" -gt "$1" ]; }

# Everything stands still with samples in the lanes that are in no window yet.
freeze_with_full_lanes() {
        # a client's descriptor may go while they are listed
        segment_fd=$(inside sh -c 'ls -l /proc/"$1"/fd 2>/dev/null || true' - "$(main_pid)" | sed -n 's,.* \([0-9]*\) -> /dev/shm/azpar.default.*,\1,p' | head -n 1)
        trains
        inside systemctl kill --kill-whom=main --signal=STOP azpar
        wait_for "the lanes hold samples" lanes_hold 300
        inside systemctl kill --kill-whom=all --signal=STOP azpar
        copy_segment
        cp "/proc/$leader/root/dev/shm/azpar.ledger" "$tmp/segment"
        ledger "" >"$tmp/ledger"
}

# The next azpard has them all, once each.
check_ledger() { # WHAT
        local result
        cp "$tmp/segment" "/proc/$leader/root/dev/shm/azpar.ledger"
        result=$(ledger /var/lib/azpar/default/window)
        inside rm /dev/shm/azpar.ledger
        jq -e --slurpfile before "$tmp/ledger" '.committed == $before[0].committed and .missing == 0 and .twice == 0' \
                <<<"$result" >/dev/null || fail "$1: $result"
        step "$1: $result"
}

kill_main() { # and wait until the next one trains
        local pid n
        pid=$(main_pid) n=$(show NRestarts)
        inside systemctl kill --kill-whom=main --signal=KILL azpar
        wait_for "azpar was started again" eval "[ \$(show NRestarts) -gt $n ] && is ActiveState active"
        [ "$(main_pid)" != "$pid" ] || fail "the same azpard"
        trains
}

test_kill() {
        freeze_with_full_lanes
        [ "$(jq -c '[.missing == .committed, .committed > 300]' "$tmp/ledger")" = "[true,true]" ] || fail "$(cat "$tmp/ledger")"
        kill_main
        inside systemctl -q is-active azpar.socket || fail "the socket did not outlive the crash"
        check_ledger "kill -9 under load"
}

# As above, and somebody has tidied up /dev/shm: systemd's fd store has it still.
test_kill_without_name() {
        freeze_with_full_lanes
        inside rm /dev/shm/azpar.default
        [ "$(show NFileDescriptorStore)" -gt 0 ] || fail "nothing in the fd store"
        kill_main
        check_ledger "kill -9, shared memory removed"
        [ "$(show NFileDescriptorStore)" = 1 ] || fail "$(show NFileDescriptorStore) descriptors in the fd store"
}

test_hang() {
        local n
        inside mkdir -p /run/systemd/system/azpar.service.d
        printf '%s\n' '[Service]' WatchdogSec=3 | inside tee /run/systemd/system/azpar.service.d/watchdog.conf >/dev/null
        inside systemctl daemon-reload
        inside systemctl restart azpar
        trains
        n=$(show NRestarts)
        inside systemctl kill --kill-whom=main --signal=STOP azpar
        wait_for "the watchdog has bitten" eval "[ \$(show NRestarts) -gt $n ] && is ActiveState active"
        must_say "Failed with result 'watchdog'"
        trains
        inside rm -r /run/systemd/system/azpar.service.d
        inside systemctl daemon-reload
        inside systemctl restart azpar
        trains
        step "hangs: restarted by the watchdog"
}

# ---- administration ----

test_two_instances() {
        printf '%s\n' '[game]' 'name = connect4' '[network]' 'filters = 8' 'blocks = 1' \
                '[search]' 'simulations = 8' '[selfplay]' 'workers = 1' '[replay]' 'window = 5000' |
                inside tee /etc/azpar/two.conf >/dev/null
        inside systemctl start azpar@two
        instance=two unit=azpar@two
        wait_until '.totals.games > 0'
        check '.instance == "two" and (.rules | test("connect4"; "i"))'
        check_is ActiveState active
        [ "$(show ControlGroup)" = /azpar.slice/azpar@two.service ] || fail "$(show ControlGroup)"
        [ "$(inside stat -c '%a %U' /var/lib/azpar/two)" = "750 azpar" ] || fail "mode of the state directory"
        inside systemctl restart azpar@two
        wait_until '.totals.games > 0'
        instance=default unit=azpar
        check '.instance == "default"'
        trains
        step "two instances at once; one is restarted, the other goes on"
}

# There need be no GPU: it has to be a unit that starts, and lets no other devices in.
test_gpu_example() {
        inside mkdir -p /etc/systemd/system/azpar.service.d
        inside cp /usr/share/doc/azpar/examples/gpu.conf /etc/systemd/system/azpar.service.d/
        inside systemctl daemon-reload
        inside systemd-analyze verify azpar.service >"$tmp/verify" 2>&1 || fail "$(cat "$tmp/verify")"
        [ ! -s "$tmp/verify" ] || fail "$(cat "$tmp/verify")"
        inside systemctl restart azpar
        trains
        [ "$(show PrivateDevices)$(show DevicePolicy)" = noclosed ] || fail "the example is not in use"
        inside rm -r /etc/systemd/system/azpar.service.d
        inside systemctl daemon-reload
        step "the example for GPUs"
}

test_upgrade() {
        local pid two inserted step
        inside systemctl reset-failed
        pid=$(main_pid) two=$(unit=azpar@two main_pid) inserted=$(q .window.inserted) step=$(q .step)
        install_package newer.deb
        [ "$(inside dpkg-query -Wf '${Version}' azpar)" != "$(dpkg-deb -f "$package" Version)" ] || fail "not upgraded"
        check_is ActiveState active
        [ "$(main_pid)" != "$pid" ] || fail "azpar was not restarted"
        check ".window.inserted >= $inserted and .step >= $step"
        trains
        unit=azpar@two check_is ActiveState active
        [ "$(unit=azpar@two main_pid)" != "$two" ] || fail "azpar@two was not restarted"
        inside systemctl -q is-active azpar.socket || fail "the socket did not outlive the upgrade"
        step "upgraded: both go on with the same run"
        # What does not run is not started.
        inside systemctl stop azpar azpar@two
        install_package newer.deb
        check_is ActiveState inactive
        unit=azpar@two check_is ActiveState inactive
        step "upgraded when stopped: stays stopped"
}

no_units() { inside systemctl list-units --all --plain --no-legend 'azpar*' >"$tmp/units" && ! grep -v not-found "$tmp/units"; }

test_remove() {
        inside systemctl reset-failed
        inside systemctl start azpar.socket azpar azpar@two
        trains
        inside dpkg --remove azpar >"$tmp/dpkg" 2>&1 || { cat "$tmp/dpkg" && fail "dpkg --remove"; }
        [ -z "$(inside pgrep -u azpar)" ] || fail "something of azpar still runs"
        inside test -s /var/lib/azpar/default/window -a -s /var/lib/azpar/two/window || fail "the state is gone"
        exists /etc/azpar/azpar.conf || fail "the configuration is gone"
        ! exists /run/azpar || fail "/run/azpar was left behind"
        wait_for "no unit is left" no_units # systemd forgets them when it has nothing else to do
        install_package azpar.deb
        inside systemctl start azpar
        check '.window.inserted > 1000'
        step "removed, and the state stays; installed again, and the run goes on"
}

test_purge() {
        local left
        inside systemctl kill --kill-whom=main --signal=KILL azpar # leaves the shared memory
        inside touch /dev/shm/azpar.of-somebody-else
        inside dpkg --purge azpar >"$tmp/dpkg" 2>&1 || { cat "$tmp/dpkg" && fail "dpkg --purge"; }
        left=$(inside find /etc /run /usr /lib/systemd /var/lib /dev/shm -xdev -name '*azpar*' ! -path '/usr/src/*' ! -path '/run/systemd/*')
        [ "$left" = /dev/shm/azpar.of-somebody-else ] || fail "left behind: $left"
        inside id azpar >/dev/null || fail "the user is gone"
        step "purged: nothing is left but the user"
}
