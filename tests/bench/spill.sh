#!/bin/bash
# SPDX-License-Identifier: MIT
#
# spill.sh BUILD: what spilling costs, how fast azpard takes spilled games back, and how soon a killed azpard takes samples
# again with a full window of 500,000, as rows "metric<TAB>value".
#
# The trainer stands still throughout (replay.min_samples), so that the workers have the same cores in all phases.
set -euo pipefail
build=$1
dir=$(mktemp -d)
daemon=
trap '[ -z "$daemon" ] || { kill -CONT "$daemon"; kill -KILL "$daemon"; } 2>/dev/null; rm -rf "$dir"' EXIT

row() { printf '%s\t%s\n' "$1" "$2"; }
ctl() { "$build/azparctl" --state "$dir/state" "$@"; }
field() { ctl --json status | jq -r "$1"; }
now_ms() { echo $(($(date +%s%N) / 1000000)); }
until_true() { # JQ-CONDITION [SECONDS]
        local deadline=$((SECONDS + ${2:-120}))
        until [ "$(field "$1" 2>/dev/null)" = true ]; do
                [ $SECONDS -lt $deadline ] || { echo "spill.sh: '$1' did not come true" >&2 && cat "$dir/log" >&2 && exit 1; }
        done
}
start() { # SETTING...
        local s settings=()
        for s in "$@"; do settings+=(--set "$s"); done
        "$build/azpard" --state "$dir/state" "${settings[@]}" >>"$dir/log" 2>&1 &
        daemon=$!
}
stop() { ctl stop >/dev/null && wait "$daemon"; daemon=; rm -rf "$dir/state"; }

# measure NAME SETTING...: rounds of ten seconds in turn, azpard at work and azpard stopped.  A small and so a fast
# network: the more samples, the dearer is spilling them.
measure() {
        local name=$1 round begin games samples ms
        shift
        start "$@" selfplay.workers=2 service.lane_bytes=65536 service.spill_after=0 replay.window=2000000 replay.min_samples=2000000
        until_true 'all(.workers[]; .games > 20)'
        for round in 1 2 3 4 5; do
                games=$(field .totals.games) samples=$(field .totals.samples) begin=$(now_ms)
                sleep 10
                ms=$(($(now_ms) - begin))
                row "spill-$name-games-per-s" "$((($(field .totals.games) - games) * 1000 / ms))"
                row "spill-$name-samples-per-s" "$((($(field .totals.samples) - samples) * 1000 / ms))"
                games=$(field .totals.games) begin=$(now_ms)
                kill -STOP "$daemon"
                sleep 10
                kill -CONT "$daemon"
                ms=$(($(now_ms) - begin))
                row "spill-$name-games-per-s-spilling" "$((($(field .totals.games) - games) * 1000 / ms))"
                # what the files hold, by the time that it takes to be gone; the workers go on meanwhile
                begin=$(now_ms) samples=$(field .spill.taken_samples)
                until_true '.spill.files == 0 and .spill.reading == null'
                ms=$(($(now_ms) - begin))
                row "spill-$name-taken-samples-per-s" "$((($(field .spill.taken_samples) - samples) * 1000 / ms))"
        done
        stop
}
measure connect4-16x1 game.name=connect4 network.filters=16 network.blocks=1 search.simulations=30

# From the start of the successor to its first samples from a worker.
start game.name=tictactoe network.filters=8 network.blocks=1 selfplay.workers=2 search.simulations=16 selfplay.games=32 \
        replay.window=500000 replay.min_samples=500000
until_true '.window.samples == 500000' 300
for round in 1 2 3 4 5; do
        kill -KILL "$daemon"
        wait "$daemon" 2>/dev/null || true
        begin=$(now_ms)
        start game.name=tictactoe network.filters=8 network.blocks=1 selfplay.workers=2 search.simulations=16 selfplay.games=32 \
                replay.window=500000 replay.min_samples=500000
        # the intake's own count begins with what its predecessor left in the lanes
        until_true '.totals.samples > 0 and .window.samples == 500000'
        row "spill-recovery-500k-to-samples-ms" $(($(now_ms) - begin))
done
stop
