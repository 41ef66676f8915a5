#!/bin/bash
# SPDX-License-Identifier: MIT
# check.sh BUILD: the demo for one minute, as a test: with a search of 100 simulations, the network must beat the plain
# search in at least 10 % more of 100 games after training than before.  Before, random weights win 13 % to 51 %,
# depending on the draw; after, 74 % and 83 % were seen.  The standard deviation of the difference is 7 % at most.
set -euo pipefail
build=$1
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
DEMO_DIR=$dir tests/demo/demo.sh "$build" 60
first=$(head -n 1 "$dir/results.tsv" | cut -f 8) last=$(tail -n 1 "$dir/results.tsv" | cut -f 8)
awk -v first="$first" -v last="$last" 'BEGIN {
        split(first, a, " "); split(last, b, " ")
        before = 100 * a[1] / (a[1] + a[2] + a[3]); after = 100 * b[1] / (b[1] + b[2] + b[3])
        printf "demo-short: beats the plain search in %.0f %% of the games before and in %.0f %% after training\n", before, after
        exit !(after >= before + 10)
}'
