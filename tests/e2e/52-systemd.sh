#!/bin/bash
# SPDX-License-Identifier: MIT
# Under a service manager: what azpard tells it and gets from it, with real descriptors.  Its shared memory is kept by the
# manager, so that samples outlive azpard and its name in /dev/shm; its control socket is there before it and after it.
. tests/e2e/lib.sh

folder=$tmp/manager
messages=$folder/messages
manager_pid=
drop_disk() { # lib.sh calls it at the end
        [ -z "$manager_pid" ] || kill -KILL "$manager_pid" 2>/dev/null || true
}
manager() { "$helpers/manager" "$1" "$folder" "${@:2}"; }
start_manager() {
        rm -rf "$folder" && mkdir "$folder" "$state" 2>/dev/null || true
        "$helpers/manager" serve "$folder" "$state/control.sock" >>"$log" 2>&1 &
        manager_pid=$!
        wait_for "the manager listens" test -e "$folder/serving"
}
under_manager="$helpers/manager run $folder"
socket=$state/control.sock
ctl() { "$azparctl" --socket "$socket" "$@"; }
said() { grep -qE -- "$1" "$messages"; }
stored() { manager list | grep '^segment ' || true; } # "segment INODE BYTES LINKS" each
n_stored() { stored | wc -l; }

lane_bytes=1048576
segment=/dev/shm/azpar.$instance
# FILE OFFSET SLOT: of the slot's part of a segment
word() { od -A n -t u8 -j $((8192 + $3 * (4096 + lane_bytes) + $2)) -N 8 "$1" | tr -d ' '; }
lane_holds() { [ $(($(word "$1" 0 "$2") - $(word "$1" 64 "$2"))) -gt 20000 ]; } # FILE SLOT
# The window must hold all that the whole test commits, however fast the machine is: so many simulations make 2,000 samples a
# second here, and the lanes are full soon enough.
begin() {
        run_azpard=${run_azpard-$under_manager} start_azpard --set service.lane_bytes=$lane_bytes --set replay.window=400000 \
                --set search.simulations=800 "$@"
}
# all lanes hold what is not in the window, nobody reads them; note what was committed by whom
committed=()
fill_lanes() {
        local slot
        wait_until 'all(.workers[]; .games > 0)'
        kill -STOP "$azpard_pid"
        for slot in 0 1; do wait_for "lane $slot holds something" lane_holds "$1" $slot; done
        for slot in 0 1; do committed+=("$(word "$1" 136 $slot) $(word "$1" 200 $slot)"); done
        kill_azpard
}
# n_lost: of what is noted, how much the window does not have
n_lost() {
        local pair lost=0 has
        for pair in "${committed[@]}"; do
                has=$("$helpers/audit" "$config" "$state/window" "${pair% *}")
                [ "$has" -ge "${pair#* }" ] || lost=$((lost + ${pair#* } - has))
        done
        echo $lost
}
stand_still() {
        ctl pause
        wait_until 'all(.workers[]; .state == "paused" and .lane_used == 0)'
}
nothing_lost() {
        stand_still
        [ "$(n_lost)" = 0 ] || fail "$(n_lost) committed samples are lost"
        audit
        ctl resume
}

# --- the control socket is there before azpard; READY comes after the first weights, and the status says what a start does
start_manager
chmod 600 "$state/control.sock"
ctl version >"$tmp/early" 2>&1 & # waits for azpard in the socket's queue
early=$!
WATCHDOG_USEC=60000 begin # often: it has to fill the manager's queue, which may be hundreds of messages long
wait "$early" || fail "who asked before azpard was there got no answer: $(cat "$tmp/early")"
wait_for "azpard is ready" said '^READY=1\|STATUS='
[ "$(q .generation)" -ge 1 ] || fail "ready without weights"
for phase in "opening the replay window" "what the last azpard left in shared memory" "the trainer's first weights"; do
        sed '/^READY=1/q' "$messages" | grep "STATUS=starting[:,].*$phase.*EXTEND_TIMEOUT_USEC=" >/dev/null || fail "no word of $phase before READY"
done
[ "$(grep -c READY=1 "$messages")" = 1 ] || fail "READY more than once"
[ "$(stat -c %a "$state/control.sock")" = 600 ] || fail "azpard changed the mode of a socket that is not its own"
# a trainer that is faster than the workers is mostly held back by the limiter
wait_for "the line of a training azpard" said '^STATUS=(limited, [^:]*: )?generation [0-9]+, [0-9.]+[kM]? samples, [0-9.]+ games/s, loss [0-9.]+'
wait_for "the watchdog is fed" eval '[ "$(grep -c WATCHDOG=1 "$messages")" -ge 5 ]'
! sed '1,/^READY=1/d' "$messages" | grep EXTEND_TIMEOUT || fail "asks for time while running"
[ "$(stored)" = "segment $(stat -L -c '%i %s' "$segment") 1" ] || fail "the manager keeps '$(stored)'"
for child in $(q '.workers[].pid, .trainer.pid'); do
        tr '\0' '\n' <"/proc/$child/environ" >"$tmp/environ"
        ! grep -E '^(NOTIFY_SOCKET|WATCHDOG_|LISTEN_)' "$tmp/environ" || fail "a child has systemd's environment"
done

# a manager that does not read does not stop azpard, and hears the newest later
kill -STOP "$manager_pid"
wait_for "the manager's queue is full" grep -q "could not tell systemd how azpard is: Resource temporarily unavailable" "$log"
games=$(q .totals.games)
wait_until ".totals.games > $games"
kill -CONT "$manager_pid"
said_before=$(grep -c STATUS= "$messages")
wait_for "the manager hears of azpard again" eval '[ "$(grep -c STATUS= "$messages")" -gt $((said_before + 2)) ]'

# --- killed under load: by the descriptor and the name, which are one segment and are drained once; then by the descriptor alone
for round in 1 2 3; do
        fill_lanes "$segment"
        [ "$round" = 1 ] || rm "$segment"
        [ "$(n_stored)" = 1 ] || fail "the manager keeps '$(stored)'"
        taken=$(grep -c 'took over [1-9]' "$log" || true)
        begin
        check '.intake.bad_records == 0 and .intake.lanes_reset == 0 and .intake.duplicates <= 50'
        [ "$(grep -c 'took over [1-9]' "$log")" = $((taken + 1)) ] || fail "azpard does not say once that it took samples over"
        [ "$(stored)" = "segment $(stat -L -c '%i %s' "$segment") 1" ] || fail "the manager keeps '$(stored)'"
        nothing_lost
done
grep -q "took over [1-9].* in systemd's fd store" "$log" || fail "azpard did not take what the manager kept"

# --- both, and different: what the manager keeps is older than what another azpard, started without it, left under the name
fill_lanes "$segment"
rm "$segment"
socket=$tmp/other.sock
run_azpard='' begin --socket "$socket"
fill_lanes "$segment"
socket=$state/control.sock
manager put segment "$tmp/manager/serving" # an empty file: what was taken in before looks like that
[ "$(n_stored)" = 2 ] || fail "the manager keeps '$(stored)'"
taken=$(grep -c 'took over [1-9]' "$log")
begin
[ "$(grep -c 'took over [1-9]' "$log")" = $((taken + 2)) ] || fail "azpard did not take in both"
[ "$(stored)" = "segment $(stat -L -c '%i %s' "$segment") 1" ] || fail "the manager keeps '$(stored)'"
nothing_lost

# --- this test can tell: with neither a name nor a descriptor, what lay in the lanes is lost
before=("${committed[@]}")
fill_lanes "$segment"
cp "$segment" "$tmp/kept"
rm "$segment"
manager forget segment
wait_for "nothing is stored" eval '[ "$(n_stored)" = 0 ]'
begin
stand_still
[ "$(n_lost)" -gt 100 ] || fail "only $(n_lost) samples are lost without a segment: nothing was tested above"
ctl resume

# --- somebody removes the name while azpard runs: a stop is clean all the same, and leaves nothing with the manager
rm "$segment"
stop_azpard
grep -q "azpar.$instance was removed while azpard ran; nothing is lost by that" "$log" || fail "no word of the removed name"
wait_for "azpard has said that it stops" said '^STOPPING=1\|STATUS=stopping.*EXTEND_TIMEOUT_USEC='
[ "$(n_stored)" = 0 ] || fail "after a clean stop the manager keeps '$(stored)'"
[ "$(stat -c %a "$state/control.sock")" = 600 ] || fail "azpard removed or changed a socket that is not its own"

# --- what was kept is found after all (a backup of it here): it is taken in, and again, and each sample is there once
for round in 1 2; do
        cp "$tmp/kept" "$tmp/again-$round"
        manager put segment "$tmp/again-$round"
        begin
        nothing_lost
        stop_azpard
        [ "$(stat -c %s "$tmp/again-$round")" = 0 ] || fail "what was taken in has its bytes still"
done

# --- what is stored and is no segment of ours: a warning each, and azpard starts
patch() { # NAME OFFSET BYTES: a copy of what was kept, with these bytes changed
        cp "$tmp/kept" "$tmp/$1"
        printf "$3" | dd of="$tmp/$1" bs=1 seek="$2" conv=notrunc status=none
}
echo "no segment" >"$tmp/text"
head -c 5000 "$tmp/kept" >"$tmp/short"
cp "$tmp/kept" "$tmp/read-only"
patch boot 32 'another boot'
patch version 8 '\x09'
cp "$tmp/kept" "$tmp/nobody"
bad=(text short boot version)
[ "$(id -u)" != 0 ] || { chown 65534 "$tmp/nobody" && bad+=(nobody); }
for name in "${bad[@]}"; do manager put segment "$tmp/$name"; done
manager put segment /dev/null
manager put segment "$tmp/read-only" ro
touch "$tmp/unknown"
AZPAR_PASS_ALSO="control=$tmp/unknown stored=$tmp/unknown x=pipe" begin
for text in "not a segment of azpar" "5000 bytes long, but its header speaks of" "made in another boot" "layout version 9" \
        "is no file" "is not open for reading and writing" $([ "$(id -u)" != 0 ] || echo "belongs.to.user.65534"); do
        [ "$(grep -c "stored shared memory.*${text//./ }.*: given back" "$log")" = 1 ] || fail "no line, or more, about '$text'"
done
for text in "'control', is a second one" "'stored', is neither" "'x', is neither"; do
        [ "$(grep -c "passed by systemd as $text" "$log")" = 1 ] || fail "no line, or more, about '$text'"
done
{ readlink /proc/"$azpard_pid"/fd/* || true; } >"$tmp/held" # one of them may be closed meanwhile
grep -q "azpar.$instance" "$tmp/held" || fail "azpard's descriptors cannot be seen"
! grep -E "$tmp/(unknown|text|short|read-only)" "$tmp/held" || fail "azpard holds what it cannot use"
[ "$(n_stored)" = 1 ] || fail "the manager keeps '$(stored)'"
nothing_lost
stop_azpard

# --- samples of another state directory or game are kept for who has it
refuses() { # PATTERN
        # shellcheck disable=SC2086
        refused "$1" $under_manager "$programs/azpard" --config "$config" --state "$state" --instance "$instance"
}
patch other-state 96 '/srv/elsewhere\0'
patch other-game 48 'othello\0'
manager put segment "$tmp/other-state"
refuses "systemd's fd store holds samples of the state directory '/srv/elsewhere'.*stop the unit to give them up"
[ "$(n_stored)" = 1 ] || fail "refused samples were not kept"
manager forget segment
manager put segment "$tmp/other-game"
refuses "systemd's fd store holds samples of 'othello', not of 'tictactoe"
[ "$(n_stored)" = 1 ] || fail "refused samples were not kept"
manager forget segment
[ ! -e "$segment" ] || fail "a refused start left shared memory behind"

# --- sockets that are none, supervisors that lie
kill -KILL "$manager_pid"
wait "$manager_pid" 2>/dev/null || true
rm -rf "$folder" && mkdir "$folder"
"$helpers/manager" serve "$folder" >>"$log" 2>&1 &
manager_pid=$!
wait_for "the manager listens" test -e "$folder/serving"
for what in datagram pipe "$tmp/unknown"; do
        AZPAR_PASS_ALSO="control=$what" refuses "passed as control socket '$state/control.sock', is no Unix stream socket that listens"
done
refused "could not take up passed descriptors by LISTEN_FDS" \
        sh -c "LISTEN_PID=\$\$ LISTEN_FDS=40 exec '$programs/azpard' --config '$config' --state '$state'"
[ ! -e "$segment" ] || fail "a refused start left shared memory behind"
[ "$(n_stored)" = 0 ] || fail "a refused start left '$(stored)' with the manager"
