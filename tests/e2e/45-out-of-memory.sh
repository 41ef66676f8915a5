#!/bin/bash
# SPDX-License-Identifier: MIT
# Workers and trainer without memory, one at a time: one that is at work stays at work as far as it can, says what is
# wrong and recovers by itself; one that cannot start says why and is started again.  The others go on, and nothing is lost.
. tests/e2e/lib.sh
[[ $programs != *san ]] || skip "a sanitizer needs more address space than can be limited"

limit_memory() { prlimit --pid "$1" --as="$2:"; } # PID BYTES: soft, so that it can be lifted again

no_spilling
mkdir "$tmp/programs"
cp "$programs/azpard" "$tmp/programs/"
for name in azpar-worker azpar-trainer; do
        cat >"$tmp/programs/$name" <<END
#!/bin/bash
limit=\$(cat "$tmp/$name.limit")
case "\$*" in "--slot 0 "*) ;; *) ulimit -S -v "\$limit" ;; esac
exec "$programs/$name" "\$@"
END
        chmod 755 "$tmp/programs/$name"
        echo unlimited >"$tmp/$name.limit"
done
programs=$tmp/programs start_azpard --set service.restart_limit=100
wait_until '.step > 20 and all(.workers[]; .games > 0 and .generation > 0)'

# others_go_on: worker 0 was never restarted, plays, and its games come into the window.
others_go_on() {
        local games inserted
        games=$(q '.workers[0].games') inserted=$(q .window.inserted)
        wait_until ".workers[0].games > $games and .window.inserted > $inserted and .workers[0].restarts == 0"
}

# A worker that gets no more memory cannot map new weights: it plays on with the old ones, and takes up the newest later.
worker=$(q '.workers[1].pid')
limit_memory "$worker" 4096
wait_until '.workers[1].refused > 0 and (.workers[1].refused_reason | test("Cannot allocate memory"))'
games=$(q '.workers[1].games') generation=$(q .generation)
wait_until ".workers[1].games > $games and .generation > $generation"
others_go_on
limit_memory "$worker" unlimited
wait_until ".workers[1].generation > $generation and .workers[1].restarts == 0 and .workers[1].pid == $worker"

# The trainer: what cannot be saved now is saved later, or it ends and is started again; azpard says which.
trainer=$(q .trainer.pid) restarts=$(q .trainer.restarts)
limit_memory "$trainer" 4096
# "being restarted" is for a tenth of a second, which nobody need see: but that it ended is counted, and why is kept and logged.
wait_until "(.state == \"degraded\" and (.reason | test(\"Cannot allocate memory|trainer is being restarted\"))) or
        (.trainer.restarts > $restarts and .trainer.last_exit != null)"
[ "$(q .trainer.restarts)" = "$restarts" ] || grep -q 'trainer: .*; starting it again in' "$log" || fail "the log does not say why the trainer ended"
others_go_on
limit_memory "$trainer" unlimited 2>/dev/null || is_gone "$trainer" || fail "could not give the trainer its memory back"
wait_until '.state != "degraded"'
ctl checkpoint
generation=$(q .generation)
wait_until ".generation > $generation"

# cannot_start NAME KILOBYTES QUERY: its process is killed, and its successors get too little to load their libraries.
cannot_start() {
        local restarts
        restarts=$(q "$3.restarts")
        echo "$2" >"$tmp/$1.limit"
        kill -KILL "$(q "$3.pid")"
        wait_until "$3.restarts >= $restarts + 2 and ($3.last_exit | test(\"exit status\"))"
        grep -qE "$1: .*(failed to map|annot allocate memory|out of memory)" "$log" || fail "$1 does not say that it lacks memory"
        others_go_on
        echo unlimited >"$tmp/$1.limit"
}

cannot_start azpar-worker 40000 '.workers[1]'
wait_until '.workers[1].state == "playing"' # its own word: what its predecessor said is wiped out
step=$(q .checkpoint.step)
cannot_start azpar-trainer 200000 .trainer
wait_until ".step > $step and .state != \"degraded\""

ctl pause
wait_until '.state == "paused" and all(.workers[]; .state == "paused" and .lane_used == 0)'
check '.window.inserted == .intake.samples and .intake.bad_records == 0 and .intake.duplicates == 0'
audit
stop_azpard
