#!/bin/bash
# SPDX-License-Identifier: MIT
# Workers and trainer are confined, each thread of them, and do all of their work that way: playing, training with two
# threads, publishing, saving, spilling, resuming.  Without the key they are not, and where the kernel refuses filters
# they say so once and work.
. tests/e2e/lib.sh

# filters PID: how many system-call filters its threads have; whoever started us may have given us some.
filters() { sed -n 's/^Seccomp_filters:\t//p' /proc/"$1"/task/*/status | sort -u; }
field() { sed -n "s/^$1:\t//p" /proc/"$2"/status; } # NAME PID
children() { q '.workers[].pid, .trainer.pid'; }
confined() { # PID...: each thread has a filter more than azpard, and no way to new rights
        local pid n
        n=$(($(filters "$azpard_pid") + 1))
        for pid in "$@"; do
                [ "$(field NoNewPrivs "$pid")" = 1 ] || return 1
                [ "$(field Seccomp "$pid")" = 2 ] || return 1
                [ "$(filters "$pid")" = $n ] || return 1
        done
}
free() { # PID...: as azpard is
        local pid
        for pid in "$@"; do
                [ "$(field NoNewPrivs "$pid")" = "$(field NoNewPrivs "$azpard_pid")" ] || return 1
                [ "$(filters "$pid")" = "$(filters "$azpard_pid")" ] || return 1
        done
}
is_confined() { [ -n "$(children)" ] && eval 'confined $(children)'; }
[ -n "$(field Seccomp_filters self)" ] || skip "this kernel does not say how many filters a process has"

# Two threads of a trainer that share two cores with workers may make one step a second.
begin() {
        start_azpard --set train.publish_interval=3 --set train.checkpoint_interval=6 --set service.spill_after=0.1 \
                --set replay.window=2000000 "$@"
}
begin --set train.threads=2
wait_until '.state == "training" and .publish.count > 2 and .checkpoint.step > 0 and all(.workers[]; .games > 0)'
is_confined || fail "not confined: $(for pid in $(children); do grep -E '^(Name|NoNew|Seccomp)' /proc/"$pid"/task/*/status; done)"
threads=$(field Threads "$(q .trainer.pid)")
[ "$threads" -ge 3 ] || fail "the trainer with two threads and a heartbeat has $threads"
confined "$azpard_pid" && fail "azpard is confined as well: the test cannot tell"

# Games to spill files and back, and all of them once.
kill -STOP "$azpard_pid"
spilled() { [ "$(find "$state/spill" -path '*/worker_*/batch_*.json' | wc -l)" -ge 6 ]; }
wait_for "games are spilled" spilled
kill -CONT "$azpard_pid"
wait_until '.spill.files == 0 and .spill.taken_samples > 0'
check '.spill.rejected == 0 and .spill.error == null'

stop_azpard

# Resumed and saved by the confined trainer; who is killed comes back confined.  (From here on nothing more is spilled: a
# killed worker's unfinished file would be a gap that the audit takes for a loss, and so would one that a worker writes at its
# end, which waits for the next start.)
no_spilling
begin
step=$(q .checkpoint.step)
wait_until ".trainer.state == \"training\" and .checkpoint.step > $step and all(.workers[]; .games > 0)"
kill -KILL "$(q '.workers[0].pid')" "$(q .trainer.pid)"
# "playing" is the new one's own word: what its predecessor said is wiped out.  The trainer's heart beats when it is confined.
wait_until '.workers[0].restarts == 1 and .trainer.restarts == 1 and .workers[0].state == "playing" and .trainer.state == "training"'
is_confined || fail "after resuming and a restart not confined"
wait_until '.spill.files == 0 and .spill.reading == null' # what was spilled before is taken in as well
[ -z "$(find "$state/spill" -path '*/worker_*/batch_*.json')" ] || fail "spilled files are left"
stop_azpard

# The negative control.
begin --set service.confine=no
wait_until '.state == "training" and all(.workers[]; .games > 0)'
# shellcheck disable=SC2046
free $(children) || fail "confined although the key says no"
is_confined && fail "what says 'confined' says so of anybody"
stop_azpard
audit
grep -q "not confined" "$log" && fail "a warning without a reason: $(grep confined "$log")"

# Where filters are refused: one word of each, and all the same work.
: >"$log"
run_azpard="$helpers/without seccomp"
begin
run_azpard=
wait_until '.state == "training" and all(.workers[]; .games > 0) and .publish.count > 2'
for who in azpar-trainer:1 azpar-worker:2; do
        n=$(grep -c "^${who%:*}: .*not confined: the kernel refused a system-call filter: Operation not permitted" "$log") || true
        [ "$n" = "${who#*:}" ] || fail "${who%:*} warned $n times: $(cat "$log")"
done
stop_azpard
audit
