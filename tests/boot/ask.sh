# SPDX-License-Identifier: MIT
#
# What the checks of the boot test ask and wait for; sourced by run. As in tests/e2e/lib.sh, but in the container, and of
# the unit $unit and the instance $instance. Nothing sleeps for a time.
#
# shellcheck shell=bash

. tests/wait.sh

step() { printf '%6d ms  %s\n' "$(($(date +%s%3N) - began_ms))" "$*"; }

fail() {
        local i
        for ((i = 0; i < ${#BASH_SOURCE[@]} - 1; i++)); do # where in the checks, not in here
                [[ ${BASH_SOURCE[i + 1]} == *ask.sh || ${BASH_SOURCE[i + 1]} == *container.sh ]] || break
        done
        echo "FAIL in ${FUNCNAME[i + 1]}, line ${BASH_LINENO[i]}: $*"
        exit 1
}

wait_for() { # WHAT COMMAND...: until the command succeeds
        local what=$1
        shift
        in_time "$@" >"$tmp/waited" 2>&1 || fail "waited $patience s in vain until $what: $(tail -n 3 "$tmp/waited")"
}

unit=azpar
instance=default

show() { inside systemctl show "$unit" -P "$1"; } # PROPERTY
is() { [ "$(show "$1")" = "$2" ]; }
check_is() { is "$1" "$2" || fail "$unit: $1 is '$(show "$1")', not '$2'"; }
main_pid() { show MainPID; }

# Everything counts against the limit of starts, our own among them.
start_again() { inside systemctl reset-failed "$unit" 2>/dev/null || true; inside systemctl start "$unit"; }

ctl() { inside azparctl --instance "$instance" "$@"; }
status() { ctl --json status; }
q() { status | jq -r "$1"; }
holds() { status 2>/dev/null | jq -e "$1" >/dev/null; }
wait_until() { wait_for "$1" holds "$1"; } # JQ-EXPRESSION
check() { holds "$1" || fail "not true: $1: $(status 2>&1 | jq -c . 2>&1)"; }
trains() { wait_until '.step > 20 and ([.workers[] | select(.pid and .games > 0)] | length) == 2'; }

# No grep -q: with pipefail it fails when journalctl has more to say.
said() { inside journalctl -u "$unit" -o cat --no-pager | grep -E -- "$1" >/dev/null; }
# What was sent to journald is not yet in the journal.
must_say() { wait_for "the journal has '$1'" said "$1"; }

refused() { # PATTERN COMMAND...: fails in time, and says PATTERN
        local pattern=$1 result=0
        shift
        "$@" >"$tmp/refused" 2>&1 </dev/null || result=$?
        [ "$result" != 0 ] || fail "'$*' succeeded"
        [ "$result" -lt 124 ] || fail "'$*' ended with $result"
        grep -qE -- "$pattern" "$tmp/refused" || fail "'$*' said '$(cat "$tmp/refused")', not '$pattern'"
}
nobody_there() { refused "no azpard answers" ctl status; }

as() { # USER COMMAND...
        local user=$1
        shift
        inside runuser -u "$user" -- "$@"
}

exists() { inside test -e "$1"; }

# cgroup FILE FILE: what the kernel holds us to; the first is the file's name in version 1, the second in version 2.
cgroup() {
        inside sh -c 'for f in /sys/fs/cgroup/*/"$1" /sys/fs/cgroup/"$2"; do [ ! -e "$f" ] || exec cat "$f"; done; exit 1' - "$@"
}
