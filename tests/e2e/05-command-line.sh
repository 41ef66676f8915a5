#!/bin/bash
# SPDX-License-Identifier: MIT
# azparctl by itself: command line, and what it says where no azpard is.  Every program's --version says the same.
. tests/e2e/lib.sh

ctl=$azparctl
usage() { # PATTERN ARGUMENT...
        local pattern=$1 result=0
        shift
        "$ctl" "$@" >"$tmp/out" 2>&1 || result=$?
        [ "$result" = 2 ] || fail "azparctl $*: exit status $result, 2 expected"
        grep -qE -- "$pattern" "$tmp/out" || fail "azparctl $*: '$(cat "$tmp/out")'"
}

usage "a command is missing"
usage "unknown command 'dance'" dance
usage "unrecognized option '--colour'" --colour status
usage "exclude each other" --state /x --socket /y status
usage "exclude each other" --instance x --socket /y status
usage "no name of an instance" --instance a/b status
usage "needs N" workers
usage "'y' is too much" status y
usage "'4' is too much" workers 3 4
usage "not a number of seconds" --interval 0 watch
usage "not a number of seconds" --interval 1x watch

refused "'x3' is not a number of workers" "$ctl" --state "$tmp" workers x3
refused "'-3' is not a number of workers" "$ctl" --state "$tmp" workers -- -3
for command in status watch "workers 1" pause resume checkpoint stop version; do
        # shellcheck disable=SC2086
        refused "^azparctl: no azpard answers on '$tmp/control.sock': No such file or directory; is it running\?$" \
                "$ctl" --state "$tmp" $command
done
refused "no azpard answers on '/run/azpar/e2e-none.sock'" "$ctl" --instance e2e-none status
touch "$tmp/file"
refused "no azpard answers on '$tmp/file': Connection refused" "$ctl" --socket "$tmp/file" status

version=$(sed -n 's/#define AZPAR_VERSION "\(.*\)"/\1/p' common/base/version.h)
for program in azparctl azpard azpar-match azpar-worker azpar-trainer; do
        [ "$("$programs/$program" --version)" = "$program $version" ] || fail "$program --version: $("$programs/$program" --version)"
done
