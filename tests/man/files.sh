#!/bin/bash
# SPDX-License-Identifier: MIT
# What azpard and its trainer really write against the pages that describe it: tensors and metadata of model.safetensors,
# keys of a checkpoint's state.json, of exported samples, of the status. Each comparison is also made with a page that is
# wrong, and must see it.
. tests/e2e/lib.sh

no_spilling # .spill.reading is an object while a file is read
start_azpard
wait_until '.step > 10 and .generation > 0 and .loss != null and .window.samples > 0'
ctl checkpoint
ctl export "$tmp/samples" >/dev/null
status >"$tmp/status"
stop_azpard

model=$state/model.safetensors
n=$(od -An -tu8 -N8 "$model" | tr -d ' ')
tail -c +9 "$model" | head -c "$n" >"$tmp/header"
checkpoints=("$state"/checkpoints/*/state.json)

# Rows of ".It Sy NAME Ta ..." in a section of a page: NAME, or all of it with tabs.
names() { sed -n "/^\.S[hs] $2/,/^\.S[hs] /s/^\.It Sy \([^ ]*\) Ta.*/\1/p" "$1"; }
rows() { sed -n "/^\.S[hs] $2/,/^\.S[hs] /s/^\.It Sy \([^ ]*\) Ta \(.*\)/\1\t\2/p" "$1"; }

# The page's tensors with the numbers of this network in them, "name [8, 3, 3, 3]", in the page's order.
page_tensors() { # PAGE
        local F planes rows cols moves B cells
        read -r F planes rows cols moves B < <(jq -r '.__metadata__ | [.filters, .planes, .rows, .cols, .moves, .blocks] | @tsv' "$tmp/header")
        cells=$((rows * cols))
        rows "$1" model.safetensors | grep $'\t\[' | awk -F'\t' -v blocks="$B" '
                /^res_block_i/ { block = block $0 "\n"; next }
                block { for (i = 0; i < blocks; i++) { copy = block; gsub(/res_block_i/, "res_block_" i, copy); printf "%s", copy } block = "" }
                { print }' |
                sed "s/2 \* cells/$((2 * cells))/; s/\bF\b/$F/g; s/\bplanes\b/$planes/; s/\bmoves\b/$moves/; s/\bcells\b/$cells/; s/\t/ /"
}
check_tensors() {
        jq -r 'del(.__metadata__) | to_entries | sort_by(.value.data_offsets[0])[] | "\(.key) [\(.value.shape | join(", "))]"' "$tmp/header" |
                diff - <(page_tensors "$1")
}
check_metadata() {
        jq -r '.__metadata__ | keys[]' "$tmp/header" | sort | diff - <(rows "$1" model.safetensors | grep -v $'\t\[' | cut -f1 | sort)
}
check_state() { jq -r 'keys[]' "${checkpoints[-1]}" | sort | diff - <(names "$1" Checkpoints | sort); }
check_sample() {
        jq -r '.[0] | keys[], (.azpar | keys[])' "$tmp"/samples/worker_0/batch_000000.json | sort |
                diff - <(sed -n '/^\.Ss The JSON form/,/^\.Ss /s/^\.It Sy \(.*\)/\1/p' "$1" | sed 's/ , /\n/g' | sort)
}
check_status() {
        jq -r '[paths(type != "object" and type != "array")] | map(map(if type == "number" then "[]" else . end) | join(".") | gsub("\\.\\[\\]"; "[]")) | unique[]' \
                "$tmp/status" | sort | diff - <(names "$1" STATUS | sort)
}

# compare CHECK PAGE EDIT: the page says what is there, and a page with that edit (of sed) does not.
compare() {
        "check_$1" "man/$2" || fail "$2 differs from what is written ($1)"
        sed "$3" "man/$2" >"$tmp/wrong"
        ! cmp -s "man/$2" "$tmp/wrong" || fail "'$3' does not change $2"
        ! "check_$1" "$tmp/wrong" >/dev/null || fail "a wrong $2 goes unseen ($1)"
}
compare tensors azpar-model.5 's/^\.It Sy policy_fc.weight Ta .*/.It Sy policy_fc.weight Ta [moves, cells]/'
compare metadata azpar-model.5 '/^\.It Sy unix_us/d'
compare state azpar-model.5 '/^\.It Sy window_tail/d'
compare sample azpar-sample.5 's/^\.It Sy root_value , weight/.It Sy root_value/'
compare status azparctl.1 '/^\.It Sy workers\[\]\.lane_waits/d'
echo "$(page_tensors man/azpar-model.5 | wc -l) tensors, $(names man/azparctl.1 STATUS | wc -l) fields of the status"
