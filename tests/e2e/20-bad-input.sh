#!/bin/bash
# SPDX-License-Identifier: MIT
# What azpard is given may be wrong: each case is refused with one line that names it, and nothing is overwritten.
. tests/e2e/lib.sh

azpard=$programs/azpard
bad=$tmp/bad.conf
refused_config() { # TEXT PATTERN: a configuration with this text
        printf '%b' "$1" >"$bad"
        refused "$2" "$azpard" --config "$bad" --state "$state"
        refused "$2" "$azpard" --config "$bad" --check
        [ ! -e "$state" ] || fail "a state directory was made for a wrong configuration"
}

# The configuration: file, line, key and range.
refused "azpard: .*$tmp/none.conf.*No such file" "$azpard" --config "$tmp/none.conf" --state "$state"
refused_config '[search]\nsimulation = 5\n' "$bad:2: .*search.simulation"
refused_config '[surch]\nsimulations = 5\n' "$bad:2: .*surch"
refused_config '\n[search]\nsimulations = many\n' "$bad:3: search.simulations: .*many.*1.*65535"
refused_config '[search]\nsimulations = 0\n' "$bad:2: search.simulations: .*1.*65535"
refused_config '[search]\nsimulations = 65536\n' "$bad:2: search.simulations: .*1.*65535"
refused_config '[search]\nsimulations = 1.5\n' "$bad:2: search.simulations: "
refused_config '[search]\ncpuct = nan\n' "$bad:2: search.cpuct: "
refused_config '[search]\ntree_reuse = maybe\n' "$bad:2: search.tree_reuse: "
refused_config '[game]\nname = chess\n' "$bad:2: game.name: .*gomoku.*connect4.*tictactoe"
refused_config '[game\n' "$bad:1: "
refused "search.simulations: .*1.*65535" "$azpard" --config "$config" --state "$state" --set search.simulations=0
refused "search.simulation" "$azpard" --config "$config" --state "$state" --set search.simulation=9
refused "unknown option" "$azpard" --colour
[ ! -e "$state" ] || fail "a state directory was made for a wrong command line"
"$azpard" --config "$config" --check >/dev/null || fail "--check refuses a good configuration"
"$azpard" --config "$config" --dump-config >"$tmp/dumped.conf"
"$azpard" --config "$tmp/dumped.conf" --dump-config | cmp - "$tmp/dumped.conf" || fail "--dump-config does not read back"

# A state directory that cannot be used.
touch "$tmp/file"
refused "'?$tmp/file" "$azpard" --config "$config" --state "$tmp/file"
refused "$tmp/file/state" "$azpard" --config "$config" --state "$tmp/file/state"

start_azpard
refused "$state.*pid $azpard_pid" "$azpard" --config "$config" --state "$state" --instance "$instance-2"
refused "$instance" "$azpard" --config "$config" --state "$tmp/other" --instance "$instance"
check '.ok' # the first one does not mind
wait_until '.checkpoint.step != null and .checkpoint.step > 0 and .step > 10'
ctl checkpoint
stop_azpard

if [ "$(id -u)" = 0 ]; then
        chmod 600 "$config"
        refused "$config.*Permission denied" $as_nobody "$azpard" --config "$config" --state "$state"
        chmod 644 "$config"
        before=$(fingerprint)
        refused "$state.*Permission denied" $as_nobody "$azpard" --config "$config" --state "$state"
        refused "$tmp/new.*Permission denied" $as_nobody "$azpard" --config "$config" --state "$tmp/new"
        [ "$before" = "$(fingerprint)" ] || fail "somebody without rights changed the state directory"
fi

# Damage that a state directory can have.  Each case works on a copy.
good=$tmp/good
mv "$state" "$good"
checkpoint=$(cd "$good" && find checkpoints -mindepth 1 -maxdepth 1 -type d | sort | tail -n 1)
refused_state() { # WHAT PATTERN [OPTION]...: azpard refuses this state directory and leaves it as it is
        local before pattern=$2
        echo "== $1"
        shift 2
        before=$(fingerprint)
        refused "$pattern" $azpard --config "$config" --state "$state" --instance "$instance" "$@"
        [ "$before" = "$(fingerprint)" ] || fail "the state directory was changed"
        [ ! -e "/dev/shm/azpar.$instance" ] || fail "shared memory was left behind"
        rm -rf "$state"
}
copy() { rm -rf "$state" && cp -a "$good" "$state"; }
damage() { printf '\xde\xad\xbe\xef' | dd of="$state/$1" bs=1 seek="$2" conv=notrunc status=none; } # FILE OFFSET

copy; damage window 0; refused_state "window: magic" "window"
copy; damage window 20; refused_state "window: header" "window"
copy; truncate -s 100 "$state/window"; refused_state "window: too short for its header" "window"
copy; truncate -s 8192 "$state/window"; refused_state "window: shorter than its header says" "window"
copy; rm "$state/window"; mkdir "$state/window"; refused_state "window: a directory" "window"
copy; damage model.safetensors 0; refused_state "model: header length" "model.safetensors"
copy; damage model.safetensors 30; refused_state "model: header" "model.safetensors"
copy; truncate -s 1000 "$state/model.safetensors"; refused_state "model: too short" "model.safetensors"
copy; : >"$state/model.safetensors"; refused_state "model: empty" "model.safetensors"
copy; damage "$checkpoint/state.json" 5; refused_state "checkpoint: state.json" "$checkpoint"
copy; damage "$checkpoint/model.safetensors" 2000; refused_state "checkpoint: model" "$checkpoint"
copy; damage "$checkpoint/optimizer.bin" 100; refused_state "checkpoint: optimizer" "$checkpoint"
copy; rm "$state/$checkpoint/optimizer.bin"; refused_state "checkpoint: no optimizer" "$checkpoint"
copy; refused_state "another game" "window.*tictactoe.*connect4|window.*connect4.*tictactoe" --set game.name=connect4
copy; refused_state "another network" "model.safetensors|checkpoint" --set network.filters=16

# The undamaged copy is still good.
copy; start_azpard; wait_until '.step > 0 and .window.samples > 0'; stop_azpard

# /dev/shm too small for the lanes: an error at start, not SIGBUS later.
cat >"$tmp/small-shm" <<END
#!/bin/sh
mount -t tmpfs -o size=256k tmpfs /dev/shm && exec "$azpard" "\$@"
END
chmod 755 "$tmp/small-shm"
if [ "$(id -u)" = 0 ] && unshare -m mount -t tmpfs -o size=256k tmpfs /dev/shm 2>/dev/null; then
        copy
        azpard="unshare -m $tmp/small-shm"
        refused_state "small /dev/shm" "/dev/shm"
else
        echo "not tested, since it needs root: a /dev/shm that is too small"
fi
