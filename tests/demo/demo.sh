#!/bin/bash
# SPDX-License-Identifier: MIT
#
# demo.sh BUILD [SECONDS]: train Connect Four from nothing and show it getting stronger.
#
# Starts azpard with two workers in a state directory of its own, shows its progress, and every few generations lets
# the published network play
#
#   its policy alone (no search) against a uniformly random player,
#   with a search of 100 simulations against the random player,
#   the same against a plain search without a network (100 simulations with random rollouts).
#
# The first row of the table, before training, and the last, after it, are measured with 100 games each.
#
#   DEMO_DIR=DIR     where to keep everything (default: a new folder under BUILD)
#   results.tsv      in there: seconds, generation, games, samples, loss, and the three as "wins draws losses"
set -euo pipefail
build=$1 seconds=${2:-${DEMO_SECONDS:-300}}
dir=${DEMO_DIR:-$build/demo-$(date +%Y%m%d-%H%M%S)}
state=$dir/state results=$dir/results.tsv
mkdir -p "$dir"
cp tests/demo/azpar.conf "$dir/azpar.conf"
daemon= measuring=

ctl() { "$build/azparctl" --state "$state" "$@"; }
cleanup() {
        [ -z "$measuring" ] || kill "$measuring" 2>/dev/null || true
        [ -z "$daemon" ] || { kill -TERM "$daemon" 2>/dev/null && wait "$daemon" 2>/dev/null; } || true
        [ ! -t 1 ] || printf '\033[?25h'
}
trap cleanup EXIT
trap 'exit 130' INT TERM

# play OPPONENT SIMULATIONS GAMES MODEL SEED: the network's wins, draws and losses against it, as "W D L"
play() {
        OMP_NUM_THREADS=1 "$build/azpar-match" --config "$dir/azpar.conf" --games "$3" --simulations "$2" \
                --first "model:$4" --second "$1" --seed "$5" --json | jq -r '"\(.wins) \(.draws) \(.losses)"'
}

# measure GAMES: one row of the results, for the weights that are published now
measure() {
        local games=$1 now=$((SECONDS - begin)) status model=$dir/measured.safetensors policy random plain
        cp "$state/model.safetensors" "$model"
        status=$(ctl status --json)
        policy=$(play random 1 100 "$model" "$now") # one simulation plays the move of the highest prior
        random=$(play random 100 "$games" "$model" "$now")
        plain=$(play plain 100 "$games" "$model" "$now")
        jq -r --arg t "$now" --arg a "$policy" --arg r "$random" --arg p "$plain" \
                '[$t, .generation, .totals.games, .totals.samples, (.loss.smooth_total // "-"), $a, $r, $p] | @tsv' \
                <<<"$status" >>"$results"
}

percent() { # "W D L" -> share of the games won, as text
        awk -v r="$1" 'BEGIN { split(r, a, " "); n = a[1] + a[2] + a[3]; printf "%3.0f %% of %d", 100 * a[1] / n, n }'
}

last_strength() {
        [ -s "$results" ] || { echo "not measured yet" && return; }
        local r p
        r=$(tail -n 1 "$results" | cut -f 7) p=$(tail -n 1 "$results" | cut -f 8)
        echo "beats random in $(percent "$r"), plain search in $(percent "$p")"
}

progress() { # one line, redrawn in place on a terminal, now and then otherwise
        local now=$((SECONDS - begin)) line bar filled
        [ "$now" -le "$seconds" ] || now=$seconds
        filled=$((30 * now / seconds))
        bar=$(printf '%*s' "$filled" '' | tr ' ' '#')$(printf '%*s' $((30 - filled)) '' | tr ' ' '.')
        line=$(ctl status --json | jq -r '"\(.state), generation \(.generation), \(.totals.games) games (\(.rates.games_per_s * 10 | round / 10)/s), loss \(if .loss.smooth_total then (.loss.smooth_total * 100 | round / 100) else "-" end)"')
        line="[$bar] $now/$seconds s  $line; $(last_strength)"
        if [ -t 1 ]; then
                printf '\r\033[K%.*s' "$(($(tput cols 2>/dev/null || echo 160) - 1))" "$line"
        elif [ $((now / 15)) != "$shown" ]; then
                shown=$((now / 15))
                echo "$line"
        fi
}

table() {
        local format='%8s %10s %8s %9s %7s   %-14s %-14s %-14s\n'
        # shellcheck disable=SC2059 # the format is ours
        {
                printf "\n$format" "" "" "" "" "" "policy alone" "100 sims." "100 sims."
                printf "$format" seconds generation games samples loss "beat random" "beat random" "beat plain search"
                while IFS=$'\t' read -r t generation games samples loss policy random plain; do
                        [ "$loss" = - ] || loss=$(printf '%.2f' "$loss")
                        printf "$format" "$t" "$generation" "$games" "$samples" "$loss" "$(percent "$policy")" \
                                "$(percent "$random")" "$(percent "$plain")"
                done <"$results"
        }
}

echo "azpar demo: Connect Four, 2 workers, $seconds s; everything is kept in $dir"
"$build/azpard" --config "$dir/azpar.conf" --state "$state" >"$dir/azpard.log" 2>&1 &
daemon=$!
begin=$SECONDS shown=-1 next=0
[ ! -t 1 ] || printf '\033[?25l'
until [ "$(ctl status --json 2>/dev/null | jq '.generation > 0')" = true ]; do
        kill -0 "$daemon" 2>/dev/null || { cat "$dir/azpard.log" && exit 1; }
        sleep 0.2
done
while [ $((SECONDS - begin)) -lt "$seconds" ]; do
        kill -0 "$daemon" 2>/dev/null || { cat "$dir/azpard.log" && exit 1; }
        if [ -n "$measuring" ] && ! kill -0 "$measuring" 2>/dev/null; then
                wait "$measuring" || { echo "a measurement failed" >&2 && exit 1; }
                measuring=
        fi
        # a first row for the untrained network, then one about every sixth of the time
        if [ -z "$measuring" ] && [ $((SECONDS - begin)) -ge "$next" ]; then
                measure $([ "$next" = 0 ] && echo 100 || echo 20) &
                measuring=$!
                next=$((SECONDS - begin + seconds / 6 + 1))
        fi
        progress
        sleep 1
done
[ -z "$measuring" ] || wait "$measuring"
measuring=
[ ! -t 1 ] || printf '\n'
echo "training is over; measuring the last network in 100 games each"
ctl pause
measure 100
table
ctl stop
wait "$daemon"
daemon=
cat <<EOF

To go on with this network from where it stopped:
    $build/azpard --config $dir/azpar.conf --state $state
and beside it:
    $build/azparctl --state $state watch
    $build/azpar-match --config $dir/azpar.conf --first model:$state/model.safetensors --second plain
EOF
