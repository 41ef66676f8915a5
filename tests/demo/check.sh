#!/bin/bash
# SPDX-License-Identifier: MIT
# check.sh BUILD: the demo for one minute, as a test: the policy alone, which starts as good as random, must beat the
# random player in at least 10 % more of 100 games at its end (two standard deviations of the difference are 13 %, of a
# gain that is 25 % to 45 % where the machine is not busy otherwise).
set -euo pipefail
build=$1
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
DEMO_DIR=$dir tests/demo/demo.sh "$build" 60
first=$(head -n 1 "$dir/results.tsv" | cut -f 6) last=$(tail -n 1 "$dir/results.tsv" | cut -f 6)
awk -v first="$first" -v last="$last" 'BEGIN {
        split(first, a, " "); split(last, b, " ")
        before = 100 * a[1] / (a[1] + a[2] + a[3]); after = 100 * b[1] / (b[1] + b[2] + b[3])
        printf "demo-short: the policy alone beats the random player in %.0f %% of the games before and in %.0f %% after training\n", before, after
        exit !(after >= before + 10)
}'
