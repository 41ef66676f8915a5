# SPDX-License-Identifier: MIT
#
# What the end-to-end tests share.  Each test sources this file from the repository's root with AZPAR_BUILD set to the
# build's folder (tests/run-all does so), gets a temporary folder $tmp with a state directory $state of its own, and
# leaves nothing behind however it ends.  Tests wait for conditions of the status, never for a time.
#
# shellcheck shell=bash disable=SC2034
set -euo pipefail
. tests/wait.sh

programs=$(readlink -f "${AZPAR_BUILD:-build/release}")
helpers=$programs/tests/e2e
tmp=$(mktemp -d "${TMPDIR:-/tmp}/azpar-e2e-XXXXXX")
chmod 755 "$tmp" # some tests come back as another user
state=$tmp/state
instance=e2e-$$
config=$tmp/azpar.conf
log=$tmp/azpard.log
azpard_pid=
patience=${AZPAR_E2E_PATIENCE:-120} # seconds that a condition may take to come true; a full machine is slow
as_nobody="setpriv --reuid=65534 --regid=65534 --clear-groups"

cleanup() {
        local status=$?
        trap - EXIT
        if [ -n "$azpard_pid" ]; then
                kill -CONT -- "$azpard_pid" 2>/dev/null || true
                kill -KILL "$azpard_pid" 2>/dev/null || true # its children die with it
                wait "$azpard_pid" 2>/dev/null || true
        fi
        if [ "$status" != 0 ] && [ "$status" != 77 ] && [ -s "$log" ]; then
                echo "--- the last lines of azpard's log"
                tail -n 25 "$log"
        fi
        ! declare -F drop_disk >/dev/null || drop_disk
        rm -rf --one-file-system "$tmp" "/dev/shm/azpar.$instance"
        exit "$status"
}
trap cleanup EXIT
trap 'exit 1' INT TERM

fail() {
        local i
        for ((i = 0; i < ${#BASH_SOURCE[@]} - 1; i++)); do # where in the test, not in here
                [[ ${BASH_SOURCE[i + 1]} == *@(lib|wait).sh ]] || break
        done
        echo "FAIL at line ${BASH_LINENO[i]}: $*"
        exit 1
}

skip() {
        echo "$*"
        exit 77
}

need_root() { [ "$(id -u)" = 0 ] || skip "needs root: $*"; }

# A tiny network on tic-tac-toe, so that everything that azpar does happens within seconds.
cat >"$config" <<END
[game]
name = tictactoe
[network]
filters = 8
blocks = 1
[search]
simulations = 8
[selfplay]
workers = 2
max_workers = 4
games = 4
[replay]
window = 20000
min_samples = 300
ratio = 4
slack = 2000
[train]
batch = 32
publish_interval = 25
checkpoint_interval = 200
keep = 3
[service]
lane_bytes = 65536
heartbeat_timeout = 60
END

# Workers do not spill: for tests that count what went through the lanes, or that audit a window after somebody was killed,
# since a killed worker leaves a gap between what it had spilled and what found room in its lane.  Without this they begin to
# when azpard was kept from its work for a second, as by a slow disk.
no_spilling() { echo "spill_max = 0" >>"$config"; } # the file ends in [service]

# run_azpard, if set: a command that runs it.
# start_azpard [OPTION]...: $programs/azpard in the background; returns when it answers.
start_azpard() {
        ${run_azpard:-} "$programs/azpard" --config "$config" --state "$state" --instance "$instance" "$@" >>"$log" 2>&1 &
        azpard_pid=$!
        wait_for "azpard answers" answers
}

# stop_azpard: as a person would; its exit status must be 0.
stop_azpard() {
        ctl stop
        wait "$azpard_pid" || fail "azpard's exit status is $?"
        azpard_pid=
}

# kill_azpard: SIGKILL at whatever it does.
kill_azpard() {
        kill -KILL "$azpard_pid"
        wait "$azpard_pid" 2>/dev/null || true
        azpard_pid=
}

azparctl=$programs/azparctl
ctl() { "$azparctl" --state "$state" "$@"; }
status() { ctl --json status; }

# q EXPRESSION: of the status, by jq.
q() { status | jq -r "$1"; }

answers() {
        [ -n "$azpard_pid" ] && ! kill -0 "$azpard_pid" 2>/dev/null && fail "azpard has exited"
        ctl version >/dev/null 2>&1
}

# wait_for WHAT COMMAND...: until the command succeeds.
wait_for() {
        local what=$1
        shift
        in_time "$@" || fail "waited $patience s in vain until $what: $(status 2>&1 | jq -c . 2>&1)"
}

holds() { status 2>/dev/null | jq -e "$1" >/dev/null; }

# wait_until EXPRESSION: until it is true of the status.
wait_until() { wait_for "$1" holds "$1"; }

# check EXPRESSION: is true of the status now.
check() { holds "$1" || { status | jq -c . && fail "not true: $1"; }; }

# refused PATTERN COMMAND...: fails in time, with one line that holds PATTERN (an extended regular expression).
refused() {
        local pattern=$1 result=0
        shift
        timeout 60 "$@" >"$tmp/refused" 2>&1 </dev/null || result=$?
        [ "$result" != 0 ] || fail "'$*' succeeded"
        [ "$result" -lt 124 ] || fail "'$*' ended with $result: $(cat "$tmp/refused")"
        [ "$(wc -l <"$tmp/refused")" = 1 ] || fail "'$*' said not one line but: $(cat "$tmp/refused")"
        grep -qE -- "$pattern" "$tmp/refused" || fail "'$*' said '$(cat "$tmp/refused")', not '$pattern'"
        echo "refused ($result): $(cat "$tmp/refused")"
}

# audit: every sample in the window is there once, and none is missing between two others; azpard must stand still.
audit() {
        local result
        result=$("$helpers/audit" "$config" "$state/window") || fail "the window cannot be read"
        echo "audit: $result"
        jq -e '.samples > 0 and .twice == 0 and .missing == 0' <<<"$result" >/dev/null || fail "the window is not whole: $result"
}

# A checksum of all that must stay as it is in the state directory.
fingerprint() { (cd "$state" && find . -type f ! -name '*lock' -print0 | sort -z | xargs -0 sha256sum | sha256sum); }

# is_gone PID...: none of these processes is there any more.  A zombie is gone, too, and so is one without descriptors: it has
# nothing left to do but to become one.
is_dead() {
        local line
        line=$(cat "/proc/$1/stat" 2>/dev/null) || return 0
        [[ ${line##*) } == [ZX]* ]]
}
is_gone() {
        local pid fds
        for pid in "$@"; do
                ! is_dead "$pid" || continue
                ! fds=$(ls "/proc/$pid/fd" 2>/dev/null) || [ -n "$fds" ] || continue
                is_dead "$pid" || return 1
        done
}

# halt PID...: SIGSTOP, and wait until all of their threads stand.  Of two signals that wait on a full machine the one with the
# smaller number comes first, which a SIGTERM has.
halt() {
        kill -STOP "$@"
        wait_for "$* stand still" stands "$@"
}
stands() {
        local pid file line
        for pid in "$@"; do
                for file in /proc/"$pid"/task/*/stat; do
                        line=$(cat "$file") && [[ ${line##*) } == T* ]] || return 1
                done
        done
}
