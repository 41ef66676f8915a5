#!/bin/bash
# SPDX-License-Identifier: MIT
# A configuration that is read again, under load: what can change is in effect, what cannot is named, a bad one is refused
# whole; workers and trainer are started anew only if a key of theirs has changed, without a sample or a step lost.
. tests/e2e/lib.sh

# set_key SECTION.KEY VALUE: in the file.
set_key() {
        sed -i "/^${1#*.} = /d" "$config"
        printf '[%s]\n%s = %s\n' "${1%.*}" "${1#*.}" "$2" >>"$config"
}
workers() { q '[.workers[].pid] | sort | join(" ")'; }
trainer() { q .trainer.pid; }
# The keys that a reload's answer names, as "changed keys | keys that need a restart".
names() { jq -r '([.changed[].key] | join(" ")) + " | " + ([.restart[].key] | join(" "))' <<<"$1"; }
# reload_gives NAMES
reload_gives() {
        local answer
        answer=$(ctl --json reload) || fail "the reload was refused"
        [ "$(names "$answer")" = "$1" ] || fail "the reload gives '$(names "$answer")', not '$1': $answer"
}
logged() { [ "$(grep -c -- "$1" "$log")" -ge "${2:-1}" ]; } # PATTERN TIMES
pause() {
        ctl pause
        wait_until '.trainer.state == "paused" and all(.workers[]; .state == "paused" and .lane_used == 0)'
}

no_spilling
set_key search.simulations 200
set_key replay.window 300000 # so that all that is played stays in it, and is audited in the end: 6,000 samples a second here
run_azpard=setsid # without a terminal, as a service
start_azpard --set replay.slack=3000
wait_until '.step > 30 and all(.workers[]; .games > 0)'
old_workers=$(workers) old_trainer=$(trainer)

# Nothing has changed, and nothing happens; neither does it for a file that says the same in other words.
reload_gives " | "
sed -i 's/^ratio = 4$/ratio = 4.00/' "$config"
[ "$(ctl reload)" = "nothing has changed" ] || fail "a reload of the same has changed something"
# What --set has set stays.
set_key replay.slack 5000
reload_gives " | "
[ "$(workers) $(trainer)" = "$old_workers $old_trainer" ] || fail "somebody was started anew for nothing"

# What a restart of azpard takes is named, each time, and not in effect.
set_key network.filters 16
set_key replay.window 50000
reload_gives " | network.filters replay.window"
reload_gives " | network.filters replay.window"
check '.window.capacity == 300000'
logged 'network.filters: 8 -> 16: needs a restart of azpard; the old value stays in effect' || fail "the log does not say it"
set_key network.filters 8
set_key replay.window 300000
reload_gives " | "

# A configuration with an error is refused whole, and so is a file that is not there or no file.
cp "$config" "$tmp/good.conf"
set_key replay.ratio 9
set_key search.simulations 0
refused "$config:$(wc -l <"$config"): search.simulations: '0' is not an integer from 1" "$azparctl" --state "$state" reload
ctl --json reload >"$tmp/answer" 2>&1 && fail "a bad file was taken"
mv "$config" "$tmp/away"
refused "$config.*No such file" "$azparctl" --state "$state" reload
mkdir "$config"
refused "$config.*not a regular file" "$azparctl" --state "$state" reload
rmdir "$config"
cp "$tmp/good.conf" "$config"
mkdir "$config.d"
echo nonsense >"$config.d/10.conf"
refused "$config.d/10.conf:1: neither" "$azparctl" --state "$state" reload
rm -r "$config.d"
check '.limiter.target_ratio == 4'
reload_gives " | "
[ "$(workers) $(trainer)" = "$old_workers $old_trainer" ] || fail "a refused reload has started somebody anew"

# azpard's own: at once, and nobody is started anew.
set_key selfplay.workers 3
set_key replay.sync_interval 0.5
reload_gives "selfplay.workers replay.sync_interval | "
wait_until '(.workers | length) == 3 and all(.workers[]; .games > 0)'
# The shorter patience counts for a silence that has lasted for longer; it ends at once, for it is no time to start with.
kill -STOP "$(q '.workers[2].pid')"
wait_until '.workers[2].heartbeat_age_s > 6'
check '.workers[2].restarts == 0'
set_key service.heartbeat_timeout 5
reload_gives "service.heartbeat_timeout | "
wait_until '.workers[2].last_exit == "silent for 5 s"'
set_key service.heartbeat_timeout 60
reload_gives "service.heartbeat_timeout | "
[ "$(q '[.workers[:2][].pid] | sort | join(" ")') $(trainer)" = "$old_workers $old_trainer" ] || fail "somebody was started anew"
# The number of workers: what a person has set stays until the file says another.
ctl workers 1
set_key replay.sync_interval 5
reload_gives "replay.sync_interval | "
check '.workers_desired == 1'
set_key selfplay.workers 2
reload_gives "selfplay.workers | "
check '.workers_desired == 2'
# More than there are lanes for, which the file alone would allow.
set_key selfplay.workers 5
set_key selfplay.max_workers 8
reload_gives " | selfplay.workers selfplay.max_workers"
check '.workers_desired == 2'
set_key selfplay.workers 2
set_key selfplay.max_workers 4
reload_gives " | "

# The workers' own: they alone are started anew.  With eight times the simulations, a sample takes many more.
wait_until '(.workers | length) == 2 and all(.workers[]; .state == "playing" and .games > 0)'
old_workers=$(workers)
before=$(status)
set_key search.simulations 1600
reload_gives "search.simulations | "
wait_until "all(.workers[]; [.pid] | inside([$(tr ' ' , <<<"$old_workers")]) | not)"
wait_until 'all(.workers[]; .games > 3)'
middle=$(status)
wait_until ".totals.samples > $(jq .totals.samples <<<"$middle") + 500"
jq -ne --argjson a "$(jq .totals <<<"$middle")" --argjson b "$(q .totals)" \
        '($b.simulations - $a.simulations) / ($b.samples - $a.samples) > 200' >/dev/null || fail "the workers do not search more"
check "all(.workers[0,1]; .restarts == 0) and .trainer.pid == $old_trainer"
check ".totals.samples >= $(jq .totals.samples <<<"$before") and .totals.games >= $(jq .totals.games <<<"$before")"
old_workers=$(workers)
set_key search.simulations 200
reload_gives "search.simulations | "
wait_until "all(.workers[]; [.pid] | inside([$(tr ' ' , <<<"$old_workers")]) | not)"

# The trainer's own: it alone is started anew, and goes on exactly where it stood.
wait_until '.step > 50 and all(.workers[]; .state == "playing" and .games > 0)'
pause
old_workers=$(workers)
step=$(q .step) trained=$(q .samples_trained) smooth=$(q .loss.smooth_total)
set_key train.learning_rate 0.002
set_key train.batch 64
reload_gives "train.batch train.learning_rate | "
# the page says "paused" from the last one; its learning rate is the new one's own word
wait_until ".trainer.pid != $old_trainer and .trainer.state == \"paused\" and .learning_rate == 0.002"
check ".step == $step and .samples_trained == $trained and .loss.smooth_total == $smooth and .trainer.restarts == 0"
[ "$(workers)" = "$old_workers" ] || fail "workers were started anew for the trainer"
ctl resume
wait_until ".step > $step + 10"
pause # so that both numbers are of the same step
check ".step > $step + 10 and .samples_trained - $trained == 64 * (.step - $step) and .learning_rate == 0.002"
ctl resume

# azpard's and the trainer's: workers wait for a trainer that has to do much more, and no longer do when told not to.
set_key replay.ratio 1000
set_key replay.throttle_workers yes
reload_gives "replay.ratio replay.throttle_workers | "
wait_until '.limiter.target_ratio == 1000 and .limiter.throttle and any(.workers[]; .state == "throttled")'
set_key replay.throttle_workers no
reload_gives "replay.throttle_workers | "
check '.limiter.throttle | not'
wait_until 'all(.workers[]; .state == "playing")'
old_trainer=$(trainer)
set_key replay.ratio 4
reload_gives "replay.ratio | "
wait_until ".trainer.pid != $old_trainer and (.trainer.state == \"training\" or .trainer.state == \"limited\")"
check 'all(.workers[0,1], .trainer; .restarts == 0)'

# While the trainer saves: whatever comes meanwhile is in the process that follows.
old_trainer=$(trainer)
halt "$old_trainer"
for rate in 0.003 0.004 0.005; do
        set_key train.learning_rate $rate
        reload_gives "train.learning_rate | "
done
kill -CONT "$old_trainer"
wait_until ".trainer.pid != $old_trainer and .learning_rate == 0.005 and .trainer.restarts == 0"

# Parked, until a key of its own has changed (where there is a GPU, it trains there instead).
set_key train.device cuda
reload_gives "train.device | "
wait_until '.trainer.state == "parked" or .trainer.device == "cuda"'
if holds '.trainer.state == "parked"'; then
        set_key replay.sync_interval 4
        reload_gives "replay.sync_interval | "
        check '.trainer.state == "parked"'
fi
set_key train.device auto
reload_gives "train.device | "
wait_until '.trainer.state == "training" or .trainer.state == "limited"'
restarts=$(q .trainer.restarts)

# SIGHUP is the same, and so is a SIGHUP with an error.
n=$(grep -c 'reloaded' "$log")
set_key replay.ratio 5
kill -HUP "$azpard_pid"
wait_until '.limiter.target_ratio == 5'
wait_for "the log says so" logged 'replay.ratio: 4 -> 5: at once, and starts the trainer anew'
echo nonsense >>"$config"
kill -HUP "$azpard_pid"
wait_for "the log says so" logged "not reloaded, the old configuration stays in effect: $config:"
sed -i '$d' "$config"
check '.limiter.target_ratio == 5'

# Strangers may not.
if [ "$(id -u)" = 0 ]; then
        chmod 755 "$state"
        chmod 666 "$state/control.sock"
        # shellcheck disable=SC2086
        refused "for root and user id 0; you are user id 65534" $as_nobody "$azparctl" --state "$state" reload
fi

# As fast as they come, under load: in the end everything is there, with the last values, and nobody has crashed.
wait_until 'all(.workers[]; .state == "playing")'
for i in $(seq 50); do
        set_key search.simulations $((1600 + i % 2))
        set_key train.publish_interval $((25 + i % 2))
        ctl reload >/dev/null || fail "reload $i was refused"
done
wait_until ".workers_desired == (.workers | length) and all(.workers[]; .state == \"playing\" and .games > 0)"
step=$(q .step)
wait_until ".step > $step + 50"
check "all(.workers[0,1]; .restarts == 0) and .trainer.restarts == $restarts"

# Many more that start nobody anew: neither descriptors nor memory grow.
descriptors() { ls "/proc/$azpard_pid/fd" | wc -l; }
heap_kb() { awk '/^[0-9a-f]+-/ { heap = /\[heap\]/ } heap && /^Rss:/ { n += $2 } END { print n + 0 }' "/proc/$azpard_pid/smaps"; }
many() {
        local i
        for i in $(seq "$1"); do
                set_key replay.sync_interval $((3 + i % 2))
                ctl reload >/dev/null || fail "reload $i was refused"
        done
        wait_for "the last client is gone" no_clients
}
# Connections that azpard has accepted and not closed have the name of the socket that listens.
no_clients() { ! awk '$6 == "03" { print $8 }' /proc/net/unix | grep -F "/${tmp##*/}/state/control.sock" >/dev/null; }
pause
wait_for "the last client is gone" no_clients
many 20
before="$(descriptors)" heap=$(heap_kb)
many 200
[ "$(descriptors)" = "$before" ] || fail "$before descriptors before, $(descriptors) after 200 reloads"
[ "$(ls -l "/proc/$azpard_pid/fd" | grep -c memfd:azpar.conf)" = 1 ] || fail "not one configuration is open"
[ "$(heap_kb)" -le $((heap + 64)) ] || fail "the heap has grown from $heap to $(heap_kb) kB in 200 reloads"
echo "220 reloads: $before descriptors, heap $heap kB, then $(heap_kb) kB"
audit
ctl resume

# While stopping: refused.
trainer=$(trainer)
halt "$trainer"
ctl stop &
stopping=$!
wait_until '.state == "stopping"'
refused "azpard is stopping" "$azparctl" --state "$state" reload
kill -HUP "$azpard_pid"
wait_for "SIGHUP is taken" logged "SIGHUP: stopping already"
kill -CONT "$trainer"
wait "$stopping" || fail "azparctl stop failed"
wait "$azpard_pid" || fail "azpard's exit status is $?"
azpard_pid=
audit
n=$("$helpers/audit" "$config" "$state/window" | jq .incarnations)
[ "$n" -ge 8 ] || fail "the window holds samples of $n workers only, which says little about reloads"
