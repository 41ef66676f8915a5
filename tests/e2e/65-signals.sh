#!/bin/bash
# SPDX-License-Identifier: MIT
# Signals that come more than once let the trainer save; a second SIGINT does not wait for it.
. tests/e2e/lib.sh

signal() { kill -s "$1" -- "$azpard_pid"; }
gone() { ! kill -0 "$azpard_pid" 2>/dev/null; }
logged() { grep -q -- "$1" "$log"; }
newest() { ls "$state/checkpoints" 2>/dev/null | tail -n 1; }

# The trainer stands still, so that all of this comes before it has saved.
start_azpard --set train.checkpoint_interval=1000000 --set service.stop_timeout=3600
wait_until '.step > 20'
trainer=$(q .trainer.pid)
kill -STOP -- "$trainer"
step=$(q .step)
signal HUP
wait_until '.state == "stopping"'
for name in HUP TERM INT; do
        signal $name
        wait_for "SIG$name is taken" logged "SIG$name: stopping already"
done
kill -0 "$trainer" || fail "the trainer was not left to save"
kill -CONT -- "$trainer"
wait_for "azpard is gone" gone
wait "$azpard_pid" || fail "azpard's exit status is $?"
saved=$(newest)
[ "$((10#${saved:-0}))" -ge "$step" ] || fail "stopped at step $step, but the newest checkpoint is '$saved'"

# Somebody does not want to wait: the same signal again, either of the two.
for name in INT TERM; do
        start_azpard --set train.checkpoint_interval=1000000 --set service.stop_timeout=3600
        wait_until ".step > $step + 20"
        kill -STOP -- "$(q .trainer.pid)"
        signal $name
        wait_until '.state == "stopping"'
        signal $name
        wait_for "azpard is gone" gone
        wait "$azpard_pid" || fail "azpard's exit status is $?"
        azpard_pid=
        logged "SIG$name again" || fail "the log does not say why the trainer was killed"
        audit
done
