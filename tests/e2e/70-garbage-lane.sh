#!/bin/bash
# SPDX-License-Identifier: MIT
# One of two workers writes garbage into its lane: that is counted and reported, a lane that cannot be read any more is
# emptied, and the other worker, the trainer and the window are unharmed.  azpard answers all the while.
. tests/e2e/lib.sh

mkdir "$tmp/programs"
cp "$programs/azpard" "$tmp/programs/"
ln -s "$programs/azpar-trainer" "$tmp/programs/"
cat >"$tmp/programs/azpar-worker" <<END
#!/bin/sh
task=\$(cat "$tmp/task")
case "\$task \$*" in
well* | *"--slot 0 "*) exec "$programs/azpar-worker" "\$@" ;;
*) exec "$helpers/garbage" "\$task" "\$@" ;;
esac
END
chmod 755 "$tmp/programs/azpar-worker"

# The sane worker has been playing and the trainer training since.
unharmed() {
        local games step inserted
        games=$(q '.workers[0].games') step=$(q .step) inserted=$(q .window.inserted)
        wait_until ".workers[0].games > $games and .step > $step and .window.inserted > $inserted"
        check '.workers[0].restarts == 0 and .workers[0].bad_records == 0 and .trainer.restarts == 0'
}

no_spilling
echo noise >"$tmp/task"
programs=$tmp/programs start_azpard --set service.restart_limit=3
wait_until '.step > 20 and .workers[1].bad_records > 1000'
unharmed
check '.intake.bad_records >= .workers[1].bad_records and .window.inserted == .intake.samples'
grep -q "lane 1" "$log" || fail "azpard's log does not name the lane"
[ "$(grep -c "" "$log")" -lt 200 ] || fail "azpard's log has $(grep -c "" "$log") lines"

# change_to TASK: from now on; the worker that runs is killed.
change_to() {
        local pid
        echo "$1" >"$tmp/task"
        pid=$(q '.workers[1].pid')
        [ "$pid" = null ] || kill -KILL "$pid" 2>/dev/null || true # it may be between two lives
}

change_to checksum
bad=$(q '.workers[1].bad_records')
wait_until ".workers[1].restarts >= 1 and .workers[1].bad_records > $bad + 1000"
unharmed

# What breaks the framing costs the worker its life and its lane's content; again and again, and it is parked.
for task in length tail; do
        reset=$(q .intake.lanes_reset)
        change_to $task
        ctl workers 2 # a new chance, if the one before it was parked
        wait_until ".intake.lanes_reset > $reset"
        wait_until '.workers[1].state == "parked" and .state == "degraded" and (.reason | test("parked"))'
        unharmed
done

# A sane one in its place goes on in the same lane.
echo well >"$tmp/task"
ctl workers 2
wait_until '.workers[1].games > 0 and .workers[1].lane_used < .workers[1].lane_bytes and .state != "degraded"'
unharmed
ctl pause
wait_until 'all(.workers[]; .state == "paused" and .lane_used == 0)'
check '.window.inserted == .intake.samples'
audit
stop_azpard
