# SPDX-License-Identifier: MIT
#
# How the tests in bash wait: for something to come true, never for a time. Sourced by what the tests of a folder share.
# Who waits sets $patience, the seconds that it may take on a machine that is full, and says what was waited for.
#
# shellcheck shell=bash

# in_time COMMAND...: runs it, in this shell, until it succeeds; fails if it does not do so in time.
in_time() {
        local deadline=$((SECONDS + patience))
        until "$@"; do
                [ "$SECONDS" -lt "$deadline" ] || return 1
                sleep 0.05
        done
}
