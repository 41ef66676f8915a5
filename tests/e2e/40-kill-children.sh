#!/bin/bash
# SPDX-License-Identifier: MIT
# Workers and trainer are killed, fall silent, or crash again and again: they are restarted, counted or parked; the rest
# goes on, and no committed sample is lost or inserted twice.
. tests/e2e/lib.sh

# worker_is SLOT CONDITION
worker_is() { echo "(.workers[] | select(.slot == $1)) as \$w | \$w.pid != null and (\$w | $2)"; }

no_spilling
start_azpard --set service.restart_limit=100
wait_until '.step > 20 and all(.workers[]; .games > 0)'

# Killed workers: each comes back with a new incarnation and plays on; the trainer does not notice.
trainer=$(q .trainer.pid)
for round in 1 2 3; do
        for slot in 0 1; do
                pid=$(q ".workers[$slot].pid")
                incarnation=$(q ".workers[$slot].incarnation")
                kill -KILL "$pid"
                wait_until "$(worker_is $slot ".restarts == $round and .pid != $pid and .incarnation > $incarnation")"
                check "$(worker_is $slot '.last_exit | test("signal 9")')"
        done
done
games=$(q .totals.games)
wait_until ".totals.games > $games + 20 and all(.workers[]; .generation > 0)"
check ".trainer.pid == $trainer and .trainer.restarts == 0"

# A killed trainer goes on from its last checkpoint; workers play on with the weights that they have.
ctl checkpoint
step=$(q .checkpoint.step) generation=$(q .generation)
kill -KILL "$trainer"
wait_until ".trainer.restarts == 1 and .trainer.pid != null and .trainer.pid != $trainer"
wait_until ".step > $step and .generation > $generation and (.trainer.last_exit | test(\"signal 9\"))"
check 'all(.workers[]; .restarts == 3)'

# After all that: paused, all that was committed is in the window, each sample once, and of the trainer that was killed nothing
# is left beside the newest checkpoints.
ctl pause
wait_until '.state == "paused" and all(.workers[], .trainer; .state == "paused") and all(.workers[]; .lane_used == 0)'
ctl checkpoint
[ "$(ls -A "$state/checkpoints" | wc -l)" -le 3 ] || fail "leftovers in $(ls -A "$state/checkpoints")"
check '.totals.samples <= .window.inserted and .window.inserted == .intake.samples'
check '.intake.bad_records == 0 and .intake.duplicates == 0 and .intake.lanes_reset == 0 and .window.damaged == 0'
audit
stop_azpard

# Silent children: stopped processes are killed and restarted.  azpard is patient, since on a full machine libtorch takes long
# to load; only when these two have been silent for longer than that is its patience cut down to ten seconds, and no sooner are
# they dead than it has the old one again.
be_patient() { # SECONDS
        sed -i "s/^heartbeat_timeout = .*/heartbeat_timeout = $1/" "$config"
        ctl reload
}
start_azpard
wait_until '.step > 20 and all(.workers[]; .games > 0)'
worker=$(q '.workers[1].pid') trainer=$(q .trainer.pid)
kill -STOP "$worker" "$trainer"
wait_until '.workers[1].heartbeat_age_s > 11 and .trainer.heartbeat_age_s > 11'
check "all(.workers[], .trainer; .restarts == 0) and .workers[1].pid == $worker and .trainer.pid == $trainer"
be_patient 10
wait_for "the silent ones are dead" is_gone "$worker" "$trainer"
be_patient 60
wait_until "$(worker_is 1 ".restarts == 1 and .pid != $worker and (.last_exit | test(\"silent\"))")"
wait_until ".trainer.restarts == 1 and .trainer.pid != null and (.trainer.last_exit | test(\"silent\"))"
check '.workers[0].restarts == 0'
games=$(q '.workers[1].games') step=$(q .step)
wait_until ".workers[1].games > $games and .step > $step"
stop_azpard

# A worker that crashes at once again and again is parked: the others go on, the status says so, and telling azpard how
# many workers it should run gives it a new chance.
mkdir "$tmp/programs"
cp "$programs/azpard" "$tmp/programs/"
ln -s "$programs/azpar-trainer" "$tmp/programs/"
cat >"$tmp/programs/azpar-worker" <<END
#!/bin/sh
case "\$*" in *"--slot 1 "*) [ -e "$tmp/well" ] || { echo "azpar-worker: not feeling well" >&2; exit 1; } ;; esac
exec "$programs/azpar-worker" "\$@"
END
chmod 755 "$tmp/programs/azpar-worker"
programs=$tmp/programs start_azpard --set service.restart_limit=3
wait_until '.state == "degraded" and (.workers[1].state == "parked") and (.reason | test("parked"))'
check '.workers[1].pid == null and (.workers[1].last_exit | test("exit status 1"))'
wait_until '.step > 20 and .workers[0].games > 0 and .workers[0].restarts == 0'
ctl status >"$tmp/people"
grep -q parked "$tmp/people" || fail "azparctl does not show what is parked"
touch "$tmp/well"
ctl workers 2
wait_until '.workers[1].games > 0 and .state != "degraded"'
stop_azpard
