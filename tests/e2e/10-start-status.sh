#!/bin/bash
# SPDX-License-Identifier: MIT
# A fresh state directory: azpard starts, samples flow, the network is trained and published, workers run it; the status
# has every field, of the right type and with sane numbers; stop leaves nothing behind.
. tests/e2e/lib.sh

start_azpard
wait_until '.state == "training" or .state == "limited"'
# Rates are counted once a second, and memory is looked up now and then: the first look may have come before there was any.
wait_until '.step > 100 and .generation > 3 and all(.rates[]; . > 0) and all(.workers[]; .games > 0) and
        .trainer.pss_bytes > 1000000 and all(.workers[]; .pss_bytes > 0 and .private_dirty_bytes > 0)'
# Workers run what is published: at some moment both have the newest version.
wait_until '.generation > 3 and .lag.workers_behind == 0'

cat >"$tmp/fields" <<'END'
.protocol number
.ok boolean
.version string
.instance string
.pid number
.state string
.reason string|null
.uptime_s number
.state_directory string
.rules string
.generation number
.generation_age_s number
.step number
.steps_per_s number
.samples_trained number
.learning_rate number
.loss.policy number
.loss.value number
.loss.total number
.loss.smooth_policy number
.loss.smooth_value number
.loss.smooth_total number
.window.samples number
.window.capacity number
.window.inserted number
.window.damaged number
.limiter.target_ratio number
.limiter.ratio number
.limiter.inserted number
.limiter.trained number
.limiter.allowed number
.limiter.throttle boolean
.rates.samples_per_s number
.rates.games_per_s number
.rates.simulations_per_s number
.rates.evaluations_per_s number
.totals.games number
.totals.samples number
.totals.simulations number
.totals.evaluations number
.lag.workers_behind number
.lag.last_ms number
.lag.max_ms number
.publish.count number
.publish.last_ms number
.publish.age_s number
.checkpoint.step number
.checkpoint.age_s number|null
.workers_desired number
.workers[].slot number
.workers[].pid number
.workers[].state string
.workers[].precision string
.workers[].incarnation number
.workers[].generation number
.workers[].lag_ms number
.workers[].max_lag_ms number
.workers[].restarts number
.workers[].last_exit null
.workers[].heartbeat_age_s number
.workers[].games number
.workers[].samples number
.workers[].games_per_s number
.workers[].samples_per_s number
.workers[].simulations_per_s number
.workers[].evaluations_per_s number
.workers[].lane_used number
.workers[].lane_bytes number
.workers[].lane_waits number
.workers[].spilled_samples number
.workers[].bad_records number
.workers[].refused number
.workers[].refused_reason null
.workers[].pss_bytes number
.workers[].private_dirty_bytes number
.trainer.pid number
.trainer.state string
.trainer.device string
.trainer.restarts number
.trainer.last_exit null
.trainer.heartbeat_age_s number
.trainer.pss_bytes number
.trainer.private_dirty_bytes number
.intake.records number
.intake.samples number
.intake.bad_records number
.intake.duplicates number
.intake.reset_bytes number
.intake.lanes_reset number
.spill.files number
.spill.bytes number
.spill.oldest_age_s number|null
.spill.ignored number
.spill.in_samples_per_s number
.spill.out_samples_per_s number
.spill.spilled_samples number
.spill.taken_files number
.spill.taken_samples number
.spill.taken_bytes number
.spill.duplicates number
.spill.rejected number
.spill.error null
.spill.reading object|null
.disk.state_bytes number
.disk.window_bytes number
.disk.free_bytes number
END
status >"$tmp/status"
while read -r path types; do
        jq -e "[$path | type] | length > 0 and all(.[]; . as \$t | \"$types\" | split(\"|\") | index(\$t))" \
                "$tmp/status" >/dev/null || fail "$path is not $types: $(jq -c "[$path]" "$tmp/status")"
done <"$tmp/fields"

while read -r truth; do
        jq -e "$truth" "$tmp/status" >/dev/null || fail "not true: $truth: $(jq -c . "$tmp/status")"
done <<END
.ok and .protocol == 1 and .pid == $azpard_pid and .instance == "$instance"
.state_directory == "$(readlink -f "$state")"
.rules | test("tictactoe")
.uptime_s > 0 and .uptime_s < 3600
.window.samples <= .window.capacity and .window.samples <= .window.inserted and .window.capacity >= 20000
.window.inserted == .intake.samples + .spill.taken_samples and .window.damaged == 0
.totals.games > 0 and .totals.samples > 4 * .totals.games and .totals.samples < 10 * .totals.games
.totals.simulations > .totals.samples and .totals.simulations >= .totals.evaluations and .totals.evaluations > 0
.rates.samples_per_s > 0 and .rates.games_per_s > 0 and .rates.simulations_per_s > 0 and .rates.evaluations_per_s > 0
.loss.total > 0 and .loss.total < 100 and .loss.policy > 0 and .loss.value > 0
.limiter.target_ratio == 4 and .limiter.ratio > 0
.workers_desired == 2 and (.workers | map(.slot)) == [0, 1] and (.workers | map(.pid) | unique | length) == 2
all(.workers[]; .restarts == 0 and .games > 0 and .bad_records == 0 and .lane_used <= .lane_bytes and .refused == 0)
all(.workers[]; .generation >= 1 and .private_dirty_bytes > 0 and .private_dirty_bytes < .pss_bytes * 2)
.trainer.restarts == 0 and .trainer.pss_bytes > 1000000
.intake.bad_records == 0 and .intake.duplicates == 0 and .intake.lanes_reset == 0
.disk.window_bytes > 0 and .disk.state_bytes > .disk.window_bytes / 2 and .disk.free_bytes > 0
.learning_rate > 0
END

# A second look: everything has gone on.
seen_step=$(jq .step "$tmp/status") seen_inserted=$(jq .window.inserted "$tmp/status")
seen_generation=$(jq .generation "$tmp/status")
wait_until ".step > $seen_step and .window.inserted > $seen_inserted and .generation > $seen_generation"

# What one process writes and another one reads fits together when both stand still.
ctl pause
wait_until '.trainer.state == "paused" and all(.workers[]; .state == "paused") and .lag.workers_behind == 0'
check '.step > 100 and .step * 32 == .samples_trained'
check '.lag.max_ms >= .lag.last_ms and all(.workers[]; .max_lag_ms >= .lag_ms)'
ctl resume

# What lies on disk and in /dev/shm.
[ "$(stat -c %a "$state/control.sock")" = 660 ] || fail "the control socket's mode is $(stat -c %a "$state/control.sock")"
[ "$(stat -c %a "/dev/shm/azpar.$instance")" = 600 ] || fail "the shared memory's mode is not 600"
for file in lock children.lock window model.safetensors; do
        [ -f "$state/$file" ] || fail "no $file in the state directory"
done

# The status for people, and watch: on a pipe block by block, on a terminal in place, which it gives back.
ctl status >"$tmp/people"
for label in azpard state game model training loss limiter window trainer workers disk; do
        grep -q "^$label " "$tmp/people" || fail "azparctl status does not show '$label': $(cat "$tmp/people")"
done
"$azparctl" --state "$state" watch --interval 0.1 >"$tmp/watch" &
watcher=$!
wait_for "watch has drawn three times" eval '[ "$(grep -c "^azpard " "$tmp/watch")" -ge 3 ]'
kill -INT "$watcher"
wait "$watcher" || fail "watch ended with $?"
# shellcheck disable=SC2016
timeout 60 script -qefc "$azparctl --state $state watch --interval 0.1 & p=\$!;
        until [ \$(grep '^workers' $tmp/tty 2>/dev/null | wc -l) -ge 3 ]; do sleep 0.1; done; kill -TERM \$p; wait \$p" \
        "$tmp/tty" >/dev/null </dev/null || fail "watch on a terminal ended with $?"
grep -q $'\e\[?1049h' "$tmp/tty" || fail "watch did not take another screen"
tail -n 5 "$tmp/tty" | grep -q $'\e\[?25h\e\[?1049l' || fail "watch did not give the terminal back"

# Stop: exit status 0, no process, socket or shared memory left, the last step saved.
pids=$(q '.workers[].pid, .trainer.pid')
stop_azpard
# shellcheck disable=SC2086
wait_for "all children are gone" is_gone $pids
[ ! -e "$state/control.sock" ] || fail "the control socket was left behind"
[ -e "$state/window" ] || fail "the window is gone"
refused "no azpard answers" "$azparctl" --state "$state" status
