#!/bin/bash
# SPDX-License-Identifier: MIT
# Commands do what they say, rude clients disturb nobody, and strangers may look but not touch.
. tests/e2e/lib.sh

start_azpard --set train.keep=1000 # so that a checkpoint that was asked for is still there when we look
wait_until '.step > 20 and all(.workers[]; .games > 0)'

# workers N: fewer, none, more, too many.
ctl workers 1
wait_until '.workers_desired == 1 and ([.workers[] | select(.pid)] | length) == 1'
ctl workers 0
wait_until '([.workers[] | select(.pid)] | length) == 0'
seen=$(q .window.inserted)
ctl workers 4
wait_until "([.workers[] | select(.pid and .games > 0)] | length) == 4 and .window.inserted > $seen"
check 'all(.workers[]; .restarts == 0)' # to finish is not to crash
refused "at most 4" "$azparctl" --state "$state" workers 5
check '.workers_desired == 4'
ctl workers 2
wait_until '([.workers[] | select(.pid)] | length) == 2'

# pause: everything stands still, hearts beat on; resume: it goes on.
ctl pause
wait_until '.state == "paused" and .trainer.state == "paused" and all(.workers[]; .state == "paused" and .lane_used == 0)'
standing='{games: .totals.games, step, inserted: .window.inserted, pids: [.workers[].pid, .trainer.pid]}'
uptime=$(q .uptime_s)
wait_until ".uptime_s > $uptime + 2" # totals are counted once a second
first=$(q "$standing")
wait_until ".uptime_s > $uptime + 5"
[ "$first" = "$(q "$standing")" ] || fail "paused, and yet it moves: $first, then $(q "$standing")"
wait_until 'all(.workers[], .trainer; .heartbeat_age_s < 4)' # so each has beaten since the pause began
check 'all(.workers[], .trainer; .restarts == 0)'
ctl pause # twice is once
ctl resume
wait_until ".totals.games > $(jq .games <<<"$first") and .step > $(jq .step <<<"$first")"
check '.state != "paused"'

# checkpoint: answered when it is written.
step=$(q .step)
answer=$(ctl --json checkpoint)
jq -e ".ok and .step >= $step" <<<"$answer" >/dev/null || fail "checkpoint at step $step: $answer"
[ -s "$state/checkpoints/$(printf %010d "$(jq .step <<<"$answer")")/state.json" ] ||
        fail "no checkpoint of $answer in $(ls "$state/checkpoints")"
wait_until ".checkpoint.step >= $step"
[[ $(ctl checkpoint) =~ ^checkpoint\ at\ step\ [0-9]+$ ]] || fail "checkpoint says something else"

# Rude clients, while somebody polite is served.
rude=$helpers/rude
socket=$state/control.sock
say() { timeout 20 "$rude" "$socket" say; }
(head -c 300000 /dev/urandom && echo) >"$tmp/garbage"
say <"$tmp/garbage" >"$tmp/answer" # answered or cut off: what matters is that azpard lives
grep -q '"ok":true' "$tmp/answer" && fail "garbage was taken for a command"
[[ $(head -c 100000 /dev/zero | tr '\0' ' ' | say) == *'"code":"EMSGSIZE"'* ]] || fail "a huge line got no answer"
[[ $(echo '{"command":"status"}' | say | jq .ok) == true ]] || fail "a half-closed connection got no answer"
[[ $(printf '{"command":"version"}\n{"command":"dance"}\n\n{"command":"pau' | say | jq -c .ok | tr '\n' ' ') == "true false false false " ]] ||
        fail "several requests in one piece were answered otherwise"
"$rude" "$socket" half >"$tmp/half" &
rudes=$!
"$rude" "$socket" deaf 200 >"$tmp/deaf" &
rudes="$rudes $!"
wait_for "the rude clients have done it" eval 'grep -q here "$tmp/half" && grep -q here "$tmp/deaf"'
check '.ok'
displaced=$("$rude" "$socket" crowd 100)
[ "$displaced" -ge 36 ] || fail "of 100 more clients beside 2, $displaced were displaced"
check '.ok'
# shellcheck disable=SC2086
kill $rudes
check 'all(.workers[], .trainer; .restarts == 0)'

# A stranger may look if the socket's mode lets him in, and change nothing.
if [ "$(id -u)" = 0 ]; then
        refused "azpard's user and group" $as_nobody "$azparctl" --state "$state" status
        chmod 755 "$state"
        chmod 666 "$socket"
        $as_nobody "$azparctl" --state "$state" --json status | jq -e .ok >/dev/null || fail "a stranger may not look"
        for command in "workers 1" pause resume checkpoint reload stop; do
                # shellcheck disable=SC2086
                refused "for root and user id 0; you are user id 65534" $as_nobody "$azparctl" --state "$state" $command
        done
        check '.workers_desired == 2 and .state != "paused" and .state != "stopping"'

        # Strangers hold all places: root gets in, and so does a polite one.
        samples=$(q .window.inserted)
        $as_nobody "$rude" "$socket" hold 64 >"$tmp/hold" &
        rudes=$!
        wait_for "strangers hold all places" grep -q here "$tmp/hold"
        check '.ok'
        [[ $(ctl checkpoint) =~ ^checkpoint ]] || fail "root gets no checkpoint while strangers hold all places"
        setpriv --reuid=65533 --regid=65533 --clear-groups "$azparctl" --state "$state" --json status | jq -e .ok >/dev/null ||
                fail "a polite stranger does not get in beside a rude one"
        kill "$rudes"

        # Strangers who come and go as fast as they can: root is served meanwhile, and the work goes on.
        $as_nobody "$rude" "$socket" storm 5000 &
        rudes=$!
        wait_until ".window.inserted > $samples"
        $as_nobody "$azparctl" --state "$state" --json status | jq -e .ok >/dev/null || fail "no answer in the storm"
        wait "$rudes" || fail "the storm could not blow"
        check 'all(.workers[], .trainer; .restarts == 0)'
fi
stop_azpard
