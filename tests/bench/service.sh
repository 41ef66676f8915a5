#!/bin/bash
# SPDX-License-Identifier: MIT
#
# service.sh BUILD: what only the whole service shows, as rows "metric<TAB>value":
# start to the first sample, azpard's share of a core, the workers' memory, the lag of a publication, the time that
# `azparctl status` takes while all cores are busy, how often a paused azpard wakes.
set -euo pipefail
build=$1
dir=$(mktemp -d)
daemon=
trap '[ -z "$daemon" ] || kill -KILL "$daemon" 2>/dev/null; rm -rf "$dir"' EXIT

row() { printf '%s\t%s\n' "$1" "$2"; }
ctl() { "$build/azparctl" --state "$dir/$state" "$@"; }
field() { ctl status --json 2>/dev/null | jq -r "$1"; }
until_true() { # JQ-CONDITION [SECONDS]
        local deadline=$((SECONDS + ${2:-60}))
        until [ "$(field "$1" 2>/dev/null)" = true ]; do
                [ $SECONDS -lt $deadline ] || { echo "service.sh: '$1' did not come true" >&2 && cat "$dir/log" >&2 && exit 1; }
                sleep 0.02
        done
}
start() { # STATE SETTING...: settings are given as section.key=value
        local settings=()
        state=$1
        shift
        for s in "$@"; do settings+=(--set "$s"); done
        "$build/azpard" --state "$dir/$state" "${settings[@]}" >"$dir/log" 2>&1 &
        daemon=$!
}
stop() { ctl stop >/dev/null && wait "$daemon"; daemon=; }
now_ms() { echo $(($(date +%s%N) / 1000000)); }
cpu_ticks() { awk '{ print $14 + $15 }' "/proc/$1/stat"; }

# A model is there (as on every start but the first), so the workers need not wait for libtorch.
tiny=(game.name=tictactoe network.filters=8 network.blocks=1 selfplay.workers=1 replay.min_samples=100)
start tiny "${tiny[@]}"
until_true '.totals.samples > 0'
stop
for i in 1 2 3; do
        begin=$(now_ms)
        start tiny "${tiny[@]}"
        until_true '.totals.samples > 0'
        row "service-start-to-first-sample-ms" $(($(now_ms) - begin))
        stop
done

# azpard's CPU time at full load of small, fast games.
start fast game.name=tictactoe network.filters=8 network.blocks=1 selfplay.workers=2 search.simulations=16 selfplay.games=32
until_true '.totals.samples > 20000'
ticks=$(cpu_ticks "$daemon") samples=$(field .totals.samples) begin=$(now_ms)
sleep 20
ticks=$(($(cpu_ticks "$daemon") - ticks)) samples=$(($(field .totals.samples) - samples)) ms=$(($(now_ms) - begin))
row service-azpard-samples-per-s $((samples * 1000 / ms))
row service-azpard-cpu-percent "$(awk -v t=$ticks -v ms=$ms -v hz="$(getconf CLK_TCK)" 'BEGIN { printf "%.2f", 100 * t / hz * 1000 / ms }')"
row service-azpard-cpu-percent-per-2000-samples-per-s "$(awk -v t=$ticks -v hz="$(getconf CLK_TCK)" -v n=$samples 'BEGIN { printf "%.3f", 100 * t / hz / n * 2000 }')"
stop

# Publication: lag of every worker, over at least 20 generations with all cores busy.
start lag game.name=connect4 network.filters=64 network.blocks=5 selfplay.workers=2 train.publish_interval=5 train.batch=64 \
        replay.min_samples=300 replay.ratio=20
until_true '.publish.count > 20' 240
row service-publish-lag-last-ms "$(field .lag.last_ms)"
row service-publish-lag-max-ms "$(field .lag.max_ms)"
: >"$dir/times"
for _ in $(seq 200); do
        begin=$(date +%s%N)
        ctl status >/dev/null
        echo $((($(date +%s%N) - begin) / 1000)) >>"$dir/times"
done
row service-status-us-median "$(sort -n "$dir/times" | sed -n 100p)"
row service-status-us-worst "$(sort -n "$dir/times" | tail -n 1)"
stop

# Paused, with nobody asking: how often azpard wakes (and finds by itself that it may sleep again).
start idle "${tiny[@]}"
until_true '.step > 0'
ctl pause >/dev/null
until_true '.state == "paused" and all(.workers[]; .state == "paused" and .lane_used == 0) and .window.durable == .window.inserted'
sleep 10 # children have been looked at more often after their start
wakes() { awk '/^voluntary_ctxt_switches/ { print $2 }' "/proc/$daemon/status"; }
begin=$(wakes)
sleep 60
row service-paused-wakes-per-s "$(awk -v n=$(($(wakes) - begin)) 'BEGIN { printf "%.2f", n / 60 }')"
stop

# Private memory of a worker on the original's network, with one game in play and with sixteen.
for games in 1 16; do
        start "memory$games" game.name=gomoku network.filters=128 network.blocks=10 selfplay.workers=1 selfplay.games=$games
        until_true '.totals.evaluations > 2000' 120
        pid=$(field '.workers[0].pid')
        row "service-worker-private-dirty-kb-games-$games" "$(awk '/^Private_Dirty/ { print $2 }' "/proc/$pid/smaps_rollup")"
        row "service-worker-pss-kb-games-$games" "$(awk '/^Pss:/ { print $2 }' "/proc/$pid/smaps_rollup")"
        stop
done
