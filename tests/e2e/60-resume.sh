#!/bin/bash
# SPDX-License-Identifier: MIT
# Stopped and started: step, samples trained, weights, generation and window go on exactly where they stood; the size of
# the window may change in between.
. tests/e2e/lib.sh

newest() { (cd "$state" && find checkpoints -mindepth 1 -maxdepth 1 -name '[0-9]*' | sort | tail -n 1); }
weights() { # FILE: a checksum of the tensors, without the header that names generation and step
        local n
        n=$(od -A n -t u8 -N 8 "$1" | tr -d ' ')
        tail -c +$((8 + n + 1)) "$1" | sha256sum
}
inserted() { "$helpers/audit" "$config" "$state/window" | jq .samples; }

no_spilling
start_azpard --set replay.ratio=50
wait_until '.step > 450 and .window.samples > 2000'
ctl pause
wait_until '.trainer.state == "paused" and all(.workers[]; .state == "paused" and .lane_used == 0)'
before=$(status)
stop_azpard

step=$(jq .step <<<"$before")
[ "$(newest)" = "checkpoints/$(printf %010d "$step")" ] || fail "stopped at step $step, but the newest checkpoint is $(newest)"
[ "$(ls "$state/checkpoints" | wc -l)" -le 3 ] || fail "more than 'keep' checkpoints: $(ls "$state/checkpoints")"
audit
[ "$(inserted)" = "$(jq .window.samples <<<"$before")" ] || fail "the window has not what it had"

# Trainer held back by min_samples, so that what it resumes can be seen before it goes on.
start_azpard --set replay.window=500000 --set replay.min_samples=499999 --set selfplay.workers=1
wait_until ".generation > $(jq .generation <<<"$before") and .trainer.state == \"filling\""
check ".step == $step and .samples_trained == $(jq .samples_trained <<<"$before")"
check ".window.inserted >= $(jq .window.inserted <<<"$before")"
check ".checkpoint.step == $step"
[ "$(weights "$state/model.safetensors")" = "$(weights "$state/$(newest)/model.safetensors")" ] ||
        fail "what was published is not what was saved"
wait_until 'all(.workers[]; .games > 0)'
stop_azpard
[ "$(newest)" = "checkpoints/$(printf %010d "$step")" ] || fail "no step was made, and yet the newest is $(newest)"
audit

# And it goes on, over several stops.
for round in 1 2; do
        start_azpard
        wait_until ".step > $step + 20"
        stop_azpard
        next=$(newest)
        next=$((10#${next#checkpoints/}))
        [ "$next" -gt "$step" ] || fail "stopped at step $next, begun at $step"
        step=$next
done

# A smaller window keeps the newest samples, a larger one all; nothing is numbered anew.
start_azpard --set replay.window=1000
check '.window.capacity == 1000 and .window.samples == 1000'
check ".window.inserted >= $(jq .window.inserted <<<"$before")"
wait_until ".step > $step"
stop_azpard
audit
[ "$(inserted)" = 1000 ] || fail "the smaller window has $(inserted) samples"
start_azpard --set replay.window=50000
check '.window.capacity == 50000 and .window.samples >= 1000'
wait_until '.window.samples > 1500 and all(.workers[]; .games > 0)'
stop_azpard
audit
