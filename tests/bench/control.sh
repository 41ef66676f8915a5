#!/bin/bash
# SPDX-License-Identifier: MIT
#
# control.sh BUILD [ROUNDS]: the control socket while all cores work, as rows "metric<TAB>value": how long `azparctl status`
# takes, and what a thousand rude clients cost in games per second (bench-control.c says what they do).  Without and with
# them take turns, ROUNDS times (5); the ratios are medians of each round's.  Games per second vary, simulations less; and
# the clients' own processor time is part of what they cost.
#
# As root the rude clients are user 65534, as in life: whoever may change something may also slow azpard, and is not paced.
#
#   BENCH_SECONDS=N   seconds of each measurement of games per second (10)
set -euo pipefail
build=$1 rounds=${2:-5} seconds=${BENCH_SECONDS:-10}
tool=$build/tests/bench/bench-control
dir=$(mktemp -d)
chmod 755 "$dir"
daemon= crowd= as_stranger=
trap 'for p in $crowd $daemon; do kill -KILL "$p" 2>/dev/null; done; rm -rf "$dir"' EXIT

row() { printf '%s\t%s\n' "$1" "$2"; }
ctl() { "$build/azparctl" --state "$dir/state" "$@"; }
field() { ctl --json status 2>/dev/null | jq -r "$1"; }
until_true() { # JQ-CONDITION
        local deadline=$((SECONDS + 240))
        until [ "$(field "$1" 2>/dev/null)" = true ]; do
                [ $SECONDS -lt $deadline ] || { echo "control.sh: '$1' did not come true" >&2 && cat "$dir/log" >&2 && exit 1; }
                sleep 0.1
        done
}
cpu_ticks() { awk '{ print $14 + $15 }' "/proc/$daemon/stat"; }
median() { sort -g | awk '{ x[NR] = $1 } END { print NR % 2 ? x[(NR + 1) / 2] : (x[NR / 2] + x[NR / 2 + 1]) / 2 }'; }

# Workers and trainer want more than there is of both cores.
"$build/azpard" --state "$dir/state" --set game.name=connect4 --set network.filters=16 --set network.blocks=1 \
        --set search.simulations=30 --set selfplay.workers="$(nproc)" --set replay.min_samples=500 --set replay.ratio=1000 \
        --set train.batch=64 >"$dir/log" 2>&1 &
daemon=$!
until_true '.trainer.state == "training" and all(.workers[]; .games > 20)'

for _ in 1 2 3; do
        read -r median_us p99_us worst_us < <("$tool" latency 1000 "$build/azparctl" --state "$dir/state" status)
        row control-status-us-median "$median_us"
        row control-status-us-99-percent "$p99_us"
        row control-status-us-worst "$worst_us"
        read -r median_us p99_us worst_us < <("$tool" ask 1000 "$dir/state/control.sock")
        row control-ask-us-median "$median_us"
        row control-ask-us-99-percent "$p99_us"
        row control-ask-us-worst "$worst_us"
        # what a program that does nothing takes here
        read -r median_us p99_us worst_us < <("$tool" latency 1000 /bin/true)
        row control-true-us-median "$median_us"
        row control-true-us-99-percent "$p99_us"
        row control-true-us-worst "$worst_us"
done

if [ "$(id -u)" = 0 ]; then
        as_stranger="setpriv --reuid=65534 --regid=65534 --clear-groups"
        chmod 755 "$dir/state"
        chmod 666 "$dir/state/control.sock"
fi
cp "$tool" "$dir/tool" # where a stranger can reach it
begin_crowd() { # KIND N
        # shellcheck disable=SC2086
        $as_stranger "$dir/tool" crowd "$1" "$2" "$dir/state/control.sock" >"$dir/crowd" &
        crowd=$!
        until grep -q ready "$dir/crowd"; do sleep 0.1; done
}
measure() { # NAME
        local ticks begin ms games simulations
        ticks=$(cpu_ticks) begin=$(date +%s%N)
        read -r games simulations < <("$tool" rate "$dir/state/control.sock" "$seconds")
        ms=$((($(date +%s%N) - begin) / 1000000))
        echo "$games" >>"$dir/games-$1"
        echo "$simulations" >>"$dir/simulations-$1"
        awk -v t=$(($(cpu_ticks) - ticks)) -v ms=$ms -v hz="$(getconf CLK_TCK)" 'BEGIN { print 100 * t / hz * 1000 / ms }' >>"$dir/azpard-$1"
}
last() { tail -n 1 "$dir/$1"; }
kinds="silent garbage slow storm"
for _ in $(seq "$rounds"); do
        measure none
        for kind in $kinds; do
                games=$(last games-none) simulations=$(last simulations-none)
                begin_crowd "$kind" 1000
                measure "$kind"
                kill -TERM "$crowd" && wait "$crowd" && crowd=
                last crowd >>"$dir/crowd-$kind"
                measure none
                # against the mean of before and after, since a machine drifts
                for what in games simulations; do
                        awk -v x="$(last "$what-$kind")" -v a="${!what}" -v b="$(last "$what-none")" 'BEGIN { print 2 * x / (a + b) }' >>"$dir/$what-ratio-$kind"
                done
        done
done
for kind in none $kinds; do
        row "control-$kind-games-per-s" "$(median <"$dir/games-$kind")"
        row "control-$kind-azpard-cpu-percent" "$(median <"$dir/azpard-$kind")"
        [ "$kind" = none ] && continue
        row "control-$kind-crowd-cpu-percent" "$(median <"$dir/crowd-$kind")"
        row "control-$kind-games-ratio" "$(median <"$dir/games-ratio-$kind")"
        row "control-$kind-simulations-ratio" "$(median <"$dir/simulations-ratio-$kind")"
done
ctl stop >/dev/null && wait "$daemon"
daemon=
