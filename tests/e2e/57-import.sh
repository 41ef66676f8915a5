#!/bin/bash
# SPDX-License-Identifier: MIT
# Moving over: a data folder of the program that azpar replaces is imported, each sample once, and what export writes holds
# exactly the same numbers, whether they were made in single or in double precision.  Bad files are named and left where
# they are.
. tests/e2e/lib.sh

cat >"$config" <<END
[game]
name = gomoku
size = 9
draw_ply = 40
[network]
filters = 8
blocks = 1
[selfplay]
workers = 1
[replay]
window = 30000
min_samples = 30000
END
original() { "$helpers/original" "$config" "$@"; }
numbers() { jq -c '.[] | [.board, .policy, .value]' "$@" | sort; } # the files' samples, in whatever order

original "$tmp/float" 2 4 10 float 1
original "$tmp/double" 2 4 10 double 2
cp -r "$tmp/float" "$tmp/float.kept"
start_azpard
ctl pause
wait_until 'all(.workers[]; .state == "paused" and .lane_used == 0)'
seen=$(q .window.inserted)

# --keep leaves the files, and a second time finds all of it in the window; without --keep they are removed.
n=$(numbers "$tmp"/float/*/*.json | wc -l)
[ "$n" -gt 500 ] || fail "only $n samples were made"
ctl --json import --keep "$tmp/float" >"$tmp/said"
jq -e >/dev/null ".files == 8 and .samples == $n and .duplicates == 0 and .rounded == 0 and .refused == []" "$tmp/said" ||
        fail "$(cat "$tmp/said")"
check ".window.inserted == $seen + $n and .window.durable == .window.inserted"
diff -r "$tmp/float" "$tmp/float.kept" || fail "the files were touched"
ctl --json import "$tmp/float" >"$tmp/said"
jq -e >/dev/null ".files == 8 and .samples == 0 and .duplicates == $n" "$tmp/said" || fail "$(cat "$tmp/said")"
[ -z "$(find "$tmp/float" -type f)" ] || fail "files are left"
ctl import --keep "$tmp/double"

# What comes out is what went in, to the last digit; and an export of this window adds nothing to it.
ctl --json export "$tmp/out" >"$tmp/said"
jq -e >/dev/null ".samples == $(q .window.samples) and .gone == 0" "$tmp/said" || fail "$(cat "$tmp/said")"
numbers "$tmp"/float.kept/*/*.json "$tmp"/double/*/*.json >"$tmp/in.txt"
jq -c '.[] | select(.azpar.slot >= 512) | [.board, .policy, .value]' "$tmp"/out/worker_0/*.json | sort >"$tmp/out.txt"
cmp "$tmp/in.txt" "$tmp/out.txt" || fail "the round trip is not exact"
refused 'holds batch files already' "$azparctl" --state "$state" export "$tmp/out"
seen=$(q .window.inserted)
ctl --json import --keep "$tmp/out" >"$tmp/said"
jq -e >/dev/null '.samples == 0 and .duplicates > 0' "$tmp/said" || fail "$(cat "$tmp/said")"
check ".window.inserted == $seen"

# Another window takes all of it, its policies to the last visit.
stop_azpard
mv "$state/window" "$tmp/window"
start_azpard
ctl pause
wait_until 'all(.workers[]; .state == "paused" and .lane_used == 0)'
ctl import "$tmp/out"
ctl export "$tmp/again"
jq -c '.[] | select(.azpar.slot >= 512) | [.board, .policy, .value]' "$tmp"/again/worker_0/*.json | sort >"$tmp/again.txt"
[ "$(comm -23 "$tmp/in.txt" "$tmp/again.txt" | wc -l)" = 0 ] || fail "samples were lost on the way"

# Bad files: the good ones come in, each bad one is named with its place, and stays.
original "$tmp/bad" 1 3 2 double 3
truncate -s -200 "$tmp/bad/worker_0/batch_000001.json"
sed -i 's/"value":/"valeu":/' "$tmp/bad/worker_0/batch_000002.json"
mkdir "$tmp/bad/worker_0/batch_000003.json"
echo notes >"$tmp/bad/notes.txt"
! ctl --json import "$tmp/bad" >"$tmp/said" 2>"$tmp/errors" || fail "bad files were imported"
jq -e >/dev/null '.files == 1 and .samples > 0 and .others == 1 and (.refused | length) == 3' "$tmp/said" || fail "$(cat "$tmp/said")"
grep -q "batch_000001.json': .*byte" "$tmp/errors" || fail "$(cat "$tmp/errors")"
grep -q "batch_000002.json': .*value" "$tmp/errors" || fail "$(cat "$tmp/errors")"
grep -q "batch_000003.json': .*not a regular file" "$tmp/errors" || fail "$(cat "$tmp/errors")"
[ "$(find "$tmp/bad" -type f | wc -l)" = 3 ] || fail "other files are there than those refused"
refused 'holds no worker_N' "$azparctl" --state "$state" import "$state"
refused 'could not open' "$azparctl" --state "$state" import "$tmp/nowhere"
echo '{"command":"import"}' | "$helpers/rude" "$state/control.sock" say >"$tmp/said"
jq -e >/dev/null '.ok == false and (.error | contains("descriptor"))' "$tmp/said" || fail "$(cat "$tmp/said")"

# A killed azpard in the middle of an import: the client hears of it, and the next try adds only what was missing.
original "$tmp/large" 1 1 1500 double 4
n=$(jq length "$tmp/large/worker_0/batch_000000.json")
seen=$(q .window.inserted)
ctl import "$tmp/large" >/dev/null 2>&1 &
client=$!
# azpard runs for a moment at a time and is looked at while it stands still, so that the middle cannot be missed.
inserted() { od -A n -t u8 -j 128 -N 8 "$state/window" | tr -d ' '; }
is_amid() {
        kill -CONT "$azpard_pid"
        sleep 0.02
        kill -STOP "$azpard_pid"
        [ "$(inserted)" -gt "$seen" ]
}
[ "$(inserted)" = "$seen" ] || fail "the window's header says $(inserted) samples, and the status $seen"
wait_for "the import is under way" is_amid
kill_azpard
[ "$(inserted)" -lt $((seen + n)) ] || fail "all of the file had come in already"
! wait "$client" || fail "azparctl did not notice"
[ -e "$tmp/large/worker_0/batch_000000.json" ] || fail "the file is gone, and its samples were not durable"
start_azpard
ctl pause
wait_until 'all(.workers[]; .state == "paused" and .lane_used == 0)'
ctl --json import "$tmp/large" >"$tmp/said"
jq -e >/dev/null ".samples + .duplicates == $n and .samples > 0 and .duplicates > 0" "$tmp/said" || fail "$(cat "$tmp/said")"
cat "$tmp/said"
stop_azpard
result=$("$helpers/audit" "$config" "$state/window")
echo "audit: $result"
jq -e >/dev/null '.twice == 0 and .imported > 0' <<<"$result" >/dev/null || fail "the window is not whole"
