#!/bin/bash
# SPDX-License-Identifier: MIT
# Does tests/man/check see what is wrong? One thing after the other is made wrong in a copy of the manual.
set -euo pipefail
build=${AZPAR_BUILD:-build/release}
tmp=$(mktemp -d "${TMPDIR:-/tmp}/azpar-control-XXXXXX")
trap 'rm -rf "$tmp"' EXIT
fail() { echo "FAIL: $*" && exit 1; }
n=0

# sees PATTERN PAGE EDIT: with that edit (of sed) check fails with one complaint that has PATTERN, or as many as its
# direction needs.
sees() {
        rm -rf "$tmp/man"
        cp -r man "$tmp/man"
        sed -i "$3" "$tmp/man/$2"
        ! cmp -s "man/$2" "$tmp/man/$2" || fail "'$3' does not change $2"
        ! tests/man/check "$build" "$tmp/man" >"$tmp/out" 2>&1 || fail "$2 with '$3' is taken for right"
        grep -q -- "$1" "$tmp/out" || fail "$2 with '$3': no complaint has '$1', but: $(cat "$tmp/out")"
        n=$((n + 1))
}

tests/man/check "$build" >/dev/null || fail "the manual is wrong to begin with: run make check-man"
sees "game.size" azpar.conf.5 '/^\.It Cm size/,/default/s/default 15/default 16/'
sees "game.size" azpar.conf.5 '/^\.It Cm size/,/default/s/5 to 20/5 to 19/'
sees "game.size" azpar.conf.5 '/^\.It Cm size/,/default/s/side of/edge of/'
sees "game.size" azpar.conf.5 '/^\.It Cm size/,/Reload/s/needs a restart of azpard/at once/'
sees "search.cpuct" azpar.conf.5 's/^\.It Cm cpuct$/.It Cm c_puct/'
sees "service.restart_limit" azpar.conf.5 '/^\.It Cm restart_limit/,/default/d'
sees "network.filters 128" azpar.conf.5 's/network.filters Ta 128/network.filters Ta 64/'
sees "options of azpard" azpard.8 '/^\.It Fl -dump-config/d'
sees "options of azparctl" azparctl.1 's/^\.It Fl -keep/.It Fl -kept/'
sees "commands of azparctl" azparctl.1 '/^\.It Cm checkpoint/d'
sees "commands of azparctl" azparctl.1 's/^\.It Cm workers Ar N/.It Cm workers/'
sees "segment_header 1152" azpar-ring.7 's/^\.It 1152 Ta/.It 1144 Ta/'
sees "segment_worker 240 256" azpar-ring.7 's/char\[256\]/char[255]/'
sees "segment_trainer 152" azpar-ring.7 '/Ta Sy gone/d'
sees "window_header 144" azpar-sample.5 's/Ta Sy next_incarnation/Ta Sy incarnation/'
sees "connect4:6x7:4 112 128" azpar-sample.5 's/^\(\.It Li connect4:6x7:4 Ta\) 112/\1 113/'
sees "more than 1048576 bytes" azpar-model.5 's/more than 1048576 bytes/more than 1048575 bytes/'
sees "up to 30 seconds" azpard.8 's/up to 30 seconds/up to 31 seconds/'
sees "azpar-rung(7), which there is not" azpar-sample.5 's/^\.Xr azpar-ring 7/.Xr azpar-rung 7/'
sees "no section EXIT STATUS" azpard.8 '/^\.Sh EXIT STATUS/d'
sees "no section EXAMPLES" azpar-ring.7 's/^\.Sh EXAMPLES/.Sh SAMPLES/'
sees "does not name azpar-model.5" azpar.7 '/^\.Xr azpar-model 5 ,/d'
sees "which no program says" azpar.7 's/^\.It Dq \/dev\/shm is too small for/.It Dq \/dev\/shm is very small for/'
sees "mandoc" azpard.8 's/^\.El/.Ell/'

# An option, a key and a struct's field that are new are missed in the page: the other direction.
mkdir -p "$tmp/build/tests/man"
for program in azpard azparctl azpar-match azpar-worker azpar-trainer; do ln -s "$(readlink -f "$build/$program")" "$tmp/build/$program"; done
ln -s "$(readlink -f "$build/tests/man/facts")" "$tmp/build/tests/man/facts"
misses() { # PATTERN PROGRAM ROW: of what the program prints beside all else
        local real
        real=$(readlink -f "$build/$2")
        rm "$tmp/build/$2"
        printf '#!/bin/sh\n"%s" "$@" | awk -v row="%s" "{ print } NR == 6 { print row }"\n' "$real" "$3" >"$tmp/build/$2"
        chmod +x "$tmp/build/$2"
        ! tests/man/check "$tmp/build" >"$tmp/out" 2>&1 || fail "'$3' of $2 is missed by nobody"
        grep -q -- "$1" "$tmp/out" || fail "'$3' of $2: no complaint has '$1', but: $(cat "$tmp/out")"
        ln -sf "$real" "$tmp/build/$2"
        n=$((n + 1))
}
misses "lacks or differs from 'dance N'" azparctl '  dance      N     dance a little'
misses "lacks or differs from 'colour'" azpard '  --colour NAME              paint it'
misses "segment_worker 528" tests/man/facts 'field\tsegment_worker\t528\t8\tu64\tdances'
echo "$n mistakes, all seen"
