#!/bin/bash
# SPDX-License-Identifier: MIT
#
# The manual's examples are run: every .Dl line of every page is a command, in the order of the page, in an empty home of
# the page's own, and must exit with status 0. What a page needs beside it, it says in the page's source:
#
#   .\" file: NAME     the literal display that follows is a file that the commands use
#   .\" config         the literal display that follows is an azpar.conf; azpard --check must take it
#
# A display in EXAMPLES without one of these fails, unless tests/man/not-run lists it; so do lines that cannot run here.
#
# A small azpard of instance "default" runs meanwhile, in a namespace with its own /etc, /run, /var/lib and /dev/shm, so
# that examples are what a user types, and the machine's own azpar is left alone.
set -euo pipefail
export LC_ALL=C
cd "$(dirname "$0")/../.."
. tests/wait.sh
fail() { echo "FAIL: $*" && exit 1; }

if [ "${1:-}" != inside ]; then
        programs=$(readlink -f "${AZPAR_BUILD:-build/release}")
        tmp=$(mktemp -d "${TMPDIR:-/tmp}/azpar-examples-XXXXXX")
        trap 'rm -rf --one-file-system "$tmp"' EXIT
        apart="unshare --mount --propagation=private --pid --fork --kill-child --mount-proc"
        [ "$(id -u)" = 0 ] || apart="$apart --map-root-user --user"
        $apart true 2>/dev/null || { echo "needs a namespace of its own, which this machine does not give: run as root" && exit 77; }
        $apart "$0" inside "$programs" "$tmp"
        exit
fi

programs=$2 tmp=$3
chmod 755 "$tmp"
mkdir "$tmp/etc" "$tmp/bin" "$tmp/pages"
cp -a --no-target-directory /etc "$tmp/etc" 2>/dev/null || true # without the files that only others may read
mount --bind "$tmp/etc" /etc
for folder in /run /var/lib /dev/shm; do mount -t tmpfs -o mode=755 tmpfs "$folder"; done
rm -rf /etc/azpar
mkdir /etc/azpar /run/azpar
for program in azpard azparctl azpar-match; do ln -s "$programs/$program" "$tmp/bin/"; done
export PATH=$tmp/bin:/usr/sbin:/usr/bin:/sbin:/bin
patience=120

cat >/etc/azpar/azpar.conf <<END2
[game]
name = connect4
[network]
filters = 8
blocks = 1
[search]
simulations = 8
[selfplay]
workers = 2
max_workers = 2
games = 4
[replay]
window = 5000
min_samples = 300
[train]
batch = 32
publish_interval = 25
checkpoint_interval = 1000000
END2

wait_for() { # WHAT COMMAND...
        local what=$1
        shift
        in_time "$@" >/dev/null 2>&1 || fail "waited $patience s in vain until $what"
}

# ---- a page's examples as rows: run TEXT, file NAME CONTENT ... with newlines as \001 ----

examples() { # PAGE
        awk '
                function plain(s) { gsub(/\\\(aq/, "\047", s); gsub(/\\\(dq/, "\"", s); gsub(/\\e/, "\\", s); gsub(/\\&/, "", s); return s }
                /^\.Sh / { in_examples = ($0 == ".Sh EXAMPLES") }
                /^\.\\" file: / { kind = "file " $3; next }
                /^\.\\" config$/ { kind = "config"; next }
                /^\.Bd / { open = 1; text = ""; next }
                /^\.Ed/ {
                        open = 0
                        if (kind) print kind "\t" text
                        else if (in_examples) print "display\t" text
                        kind = ""
                        next
                }
                open { text = text plain($0) "\001"; next }
                /^\.Dl / { print "run\t" plain(substr($0, 5)) }' "man/$1"
}

# Whether not-run lists this line of the page; it is ticked off.
is_left_out() { # PAGE LINE
        local row
        row=$(awk -F'\t' -v page="$1" -v line="$2" '$1 == page && $2 == line { print NR }' tests/man/not-run)
        [ -n "$row" ] && echo "$row" >>"$tmp/left-out"
}

# ---- running ----

n_run=0 served=()

# azpard in the foreground is there to stay: it runs until the page ends.
serve() { # LINE
        local where
        where=$(grep -oE -- '--(state|instance|socket) [^ ]+' <<<"$1" | head -n 1) || true
        bash -c "exec $1" >"$tmp/azpard.log" 2>&1 &
        served+=("$! $where")
        wait_for "'$1' answers" bash -c "azparctl $where version"
}

stop_served() {
        local row pid where
        for row in "${served[@]+"${served[@]}"}"; do
                read -r pid where <<<"$row"
                ! kill -0 "$pid" 2>/dev/null || bash -c "azparctl $where stop" || return 1
                wait "$pid" || return 1
        done
        served=()
}

# It would go on for ever: until it has drawn something, then ^C.
watch() { # LINE
        local pid
        rm -f "$tmp/watch" # of an earlier one, which must not count as this one's
        bash -c "exec $1" >"$tmp/watch" 2>&1 &
        pid=$!
        wait_for "'$1' shows something" grep -q '^state ' "$tmp/watch"
        kill -INT "$pid"
        wait "$pid"
}

run_line() { # LINE
        case $1 in
        *azpard*--check* | *azpard*--dump-config*) ;;
        azpard\ * | build/release/azpard\ *) serve "$1"; return ;;
        azparctl*\ watch*) watch "$1"; return ;;
        esac
        timeout "$patience" bash -euo pipefail -c "$1" >"$tmp/out" 2>&1 </dev/null
}

run_page() { # PAGE
        local page=$1 kind text home=$tmp/pages/$1
        mkdir "$home"
        export HOME=$home
        mkdir "$home/build"
        ln -s "$programs" "$home/build/release"
        # the data folder of the program that azpar replaces, where a page takes one in
        ! grep -q '^\.Dl azparctl import.* data$' "man/$page" ||
                "$programs/tests/e2e/original" /etc/azpar/azpar.conf "$home/data" 2 2 5 float 1 >/dev/null
        while IFS=$'\t' read -r kind text; do
                text=${text//$'\001'/$'\n'}
                case $kind in
                run)
                        is_left_out "$page" "$text" && continue
                        pushd "$home" >/dev/null
                        run_line "$text" || { cat "$tmp/out" && tail -n 5 "$tmp/azpard.log" && fail "$page: '$text' exits with status $?"; }
                        popd >/dev/null
                        ;;
                file\ *) printf '%s' "$text" >"$home/${kind#file }" ;;
                config)
                        printf '%s' "$text" >"$home/azpar.conf"
                        azpard --check --config "$home/azpar.conf" >/dev/null || fail "$page: a configuration is refused"
                        ;;
                display) is_left_out "$page" "${text%%$'\n'*}" || fail "$page: what is '${text%%$'\n'*}'? Mark it as a file or a configuration" ;;
                esac
                n_run=$((n_run + 1))
        done < <(examples "$page")
        stop_served || fail "$page: an azpard did not stop with status 0: $(tail -n 3 "$tmp/azpard.log")"
        echo "$page: $(examples "$page" | wc -l) examples, $SECONDS s since the start"
}

touch "$tmp/left-out" "$tmp/out" "$tmp/azpard.log"
azpard >"$tmp/default.log" 2>&1 &
default=$!
wait_for "the default instance trains" eval 'azparctl --json status | jq -e "[.step > 0] == [true]"'
azparctl checkpoint >/dev/null

# Negative control: what fails is seen.
! run_line "azparctl --state /nowhere status" || fail "an example that fails goes unseen"
[ "$(examples azpar-sample.5 | grep -c '^file ')" -ge 2 ] || fail "files of examples are not found"

for path in man/*.[1-8]; do run_page "${path##*/}"; done
azparctl stop
wait "$default" || fail "the default instance ended with status $?: $(tail -n 3 "$tmp/default.log")"

# Each row of not-run is of use.
n_rows=$(grep -vc '^#' tests/man/not-run)
[ "$(sort -u "$tmp/left-out" | wc -l)" = "$n_rows" ] || fail "not-run lists what no page has: $(awk 'NR == FNR { used[$1]; next } !/^#/ && !(FNR in used)' "$tmp/left-out" tests/man/not-run)"
[ "$n_run" -gt 20 ] || fail "only $n_run examples were run"
echo "$n_run examples run, $n_rows left out"
