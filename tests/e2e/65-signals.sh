#!/bin/bash
# SPDX-License-Identifier: MIT
# Signals that come more than once let the trainer save; a second SIGINT does not wait for it.
. tests/e2e/lib.sh

signal() { kill -s "$1" -- "$azpard_pid"; }
gone() { is_gone "$azpard_pid"; } # where nobody takes up orphans it stays a zombie
logged() { grep -q -- "$1" "$log"; }
newest() { ls "$state/checkpoints" 2>/dev/null | tail -n 1; }

# Started in a terminal of its own, whose end $terminal holds.
start_in_terminal() {
        script -qefc "exec '$programs/azpard' --config '$config' --state '$state' --instance $instance $*" /dev/null \
                </dev/null >>"$log" 2>&1 &
        terminal=$!
        wait_for "azpard answers" answers
        azpard_pid=$(q .pid)
}

# Without a terminal SIGHUP does not stop it (35-reload.sh says what it does); with one it does.  The trainer stands
# still, so that all of this comes before it has saved.
no_spilling
start_in_terminal --set train.checkpoint_interval=1000000 --set service.stop_timeout=3600
wait_until '.step > 20'
trainer=$(q .trainer.pid)
halt "$trainer"
step=$(q .step)
signal HUP
wait_until '.state == "stopping"'
for name in HUP TERM INT; do
        signal $name
        wait_for "SIG$name is taken" logged "SIG$name: stopping already"
done
kill -0 "$trainer" || fail "the trainer was not left to save"
kill -CONT -- "$trainer"
wait "$terminal" || fail "azpard's exit status is $?"
azpard_pid=
saved=$(newest)
[ "$((10#${saved:-0}))" -ge "$step" ] || fail "stopped at step $step, but the newest checkpoint is '$saved'"

# The terminal is gone, and nobody sends anything.
start_in_terminal --set train.checkpoint_interval=1000000
wait_until ".step > $step + 20"
step=$(q .step)
kill -KILL "$terminal"
wait_for "azpard is gone" gone
azpard_pid=
saved=$(newest)
[ "$((10#${saved:-0}))" -ge "$step" ] || fail "hung up at step $step, but the newest checkpoint is '$saved'"
audit

# Somebody does not want to wait: the same signal again, either of the two.
for name in INT TERM; do
        start_azpard --set train.checkpoint_interval=1000000 --set service.stop_timeout=3600
        wait_until '.step > .checkpoint.step + 20' # so this trainer has made some, and does not just load
        halt "$(q .trainer.pid)"
        signal $name
        wait_until '.state == "stopping"'
        signal $name
        wait_for "azpard is gone" gone
        wait "$azpard_pid" || fail "azpard's exit status is $?"
        azpard_pid=
        logged "SIG$name again" || fail "the log does not say why the trainer was killed"
        audit
done
