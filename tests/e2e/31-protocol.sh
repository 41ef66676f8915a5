#!/bin/bash
# SPDX-License-Identifier: MIT
# azpar-protocol(7) against what azpard really says: commands, limits, every key of the status with its type, and the
# examples. Each comparison is also made with a page that is wrong, and must see it.
. tests/e2e/lib.sh

page=man/azpar-protocol.7
socket=$state/control.sock
ask() { socat -t 60 - "UNIX-CONNECT:$socket"; }
command -v socat >/dev/null || skip "needs socat"

start_azpard
wait_until '.step > 20 and .loss != null and all(.workers[]; .games > 0)'

# ---- with a request and an end of it of any kind ----

[ "$(echo '{"command":"version"}' | ask | jq -c '[.ok, .protocol]')" = '[true,1]' ] || fail "socat gets no answer"
[ "$(echo -n '{"command":"version"}' | ask | jq .ok)" = true ] || fail "a request without a newline gets no answer"
answers=$(printf '{"command":"pause","id":1}\n{"command":"checkpoint","id":"two"}\n{"command":"dance","id":3}\n{"command":"resume","id":4}' |
        ask | jq -c '[.id, .ok]' | tr '\n' ' ')
[ "$answers" = '[1,true] ["two",true] [3,false] [4,true] ' ] || fail "four requests at once were answered with $answers"
[ "$(echo '{"command":"status","protocol":2,"colour":1}' | ask | jq -r .code)" = EPROTONOSUPPORT ] || fail "protocol 2 is not refused"

# ---- the page ----

section() { sed -n "/^\.Sh $2/,/^\.Sh /p" "$1"; }
echo '{"command":"help"}' | ask >"$tmp/help"
status >"$tmp/status"

check_commands() {
        jq -r '.commands[] | [.command, (.keys | join(" ")), (if .changes then "root, azpard" else "all" end)] | join("|")' "$tmp/help" |
                diff - <(section "$1" COMMANDS | sed -n 's/^\.It Cm \([a-z]*\) Ta \(.*\)/\1 Ta \2/p' |
                        awk -F' ?Ta ?' '{ sub(/^Sy /, "", $2); print $1 "|" $2 "|" $3 }')
}
check_limits() {
        jq -r '.limits | to_entries[] | "\(.key)=\(.value)"' "$tmp/help" |
                diff - <(section "$1" LIMITS | sed -n 's/^\.It Sy \([a-z_]*\) Ta \([0-9]*\) Ta .*/\1=\2/p')
}
# Every number of LIMITS that stands in a sentence is one of these.
check_sentences() {
        local number
        for number in $(sed '/^\.It/d; /^\.Bl/d; /^\.Xr/d; /^\.Dd/d' "$1" | sed -n '/^\.Ss Requests/,/^\.Sh STATUS/p; /^\.Sh LIMITS/,/^\.Sh CODES/p' | grep -oE '[0-9]{2,}'); do
                [ "$number" = 999999999999999 ] || [[ $number =~ ^(0000|0660)$ ]] ||
                        jq -e "[.limits[] == $number] | any" "$tmp/help" >/dev/null || { echo "$number is no limit" && return 1; }
        done
}
# Rows of the page's: key, type. What is not in the status must be in something that is null there.
check_status() {
        section "$1" STATUS | sed -n 's/^\.It Sy \([^ ]*\) Ta \([a-z ]*[a-z]\) Ta.*/\1\t\2/p' | jq -R 'split("\t")' | jq -s 'map({ (.[0]): .[1] }) | add' >"$tmp/page"
        jq -rn --slurpfile page "$tmp/page" --slurpfile status "$tmp/status" '
                $page[0] as $page |
                ($status[0] | [paths as $p | { key: ($p | map(if type == "number" then "[]" else . end) | join(".") | gsub("\\.\\[\\]"; "[]")), value: getpath($p) }]
                        | map(select(.key | endswith("[]") | not))) as $seen |
                ($seen[] | $page[.key] as $type | .value as $v | ($v | type) as $t |
                        select(($type == null or
                                ($t == "null" and ($type | endswith("or null"))) or
                                ($t == "string" and ($type | startswith("text"))) or
                                ($t == "boolean" and $type == "bool") or
                                ($t == "number" and ($type | startswith("number"))) or
                                ($t == "number" and ($type | startswith("count")) and $v >= 0 and $v == ($v | floor)) or
                                ($t == "object" and ($type | startswith("object"))) or
                                ($t == "array" and $type == "list")) | not) |
                        "\(.key) is \($t), not \($type)"),
                ($seen[] | select($page[.key] == null) | "the page lacks \(.key)"),
                ($page | keys[] | . as $key | select([$seen[] | select(.key == $key)] == []) |
                        select([$seen[] | select(.value == null) | .key as $above | select($key | startswith($above + "."))] == []) |
                        "the status lacks \(.)")' | sort -u >"$tmp/differences"
        cat "$tmp/differences"
        [ ! -s "$tmp/differences" ]
}

# compare CHECK EDIT...: the page says what is there, and a page with that edit (of sed) does not.
compare() {
        local check=$1 edit
        shift
        "check_$check" "$page" || fail "azpar-protocol.7 differs ($check)"
        for edit in "$@"; do
                sed "$edit" "$page" >"$tmp/wrong"
                ! cmp -s "$page" "$tmp/wrong" || fail "'$edit' changes nothing"
                ! "check_$check" "$tmp/wrong" >/dev/null || fail "a wrong page goes unseen ($check, '$edit')"
        done
}
compare commands '/^\.It Cm pause Ta/d' 's/^\.It Cm workers Ta Sy count Ta/.It Cm workers Ta Ta/' 's/^\(\.It Cm stop Ta Ta\) root, azpard/\1 all/'
compare limits '/^\.It Sy backlog Ta/d' 's/^\.It Sy clients Ta 64/.It Sy clients Ta 65/'
compare sentences 's/for 30 seconds neither/for 31 seconds neither/' 's/at most 4096 bytes/at most 4097 bytes/'
compare status '/^\.It Sy workers\[\]\.lane_waits/d' 's/^\.It Sy pid Ta count/.It Sy pid Ta text/' 's/^\.It Sy uptime_s Ta number/.It Sy uptime_s Ta count/' \
        's/^\.It Sy reason Ta text or null/.It Sy reason Ta count/' 's/^\.It Sy uptime_s/.It Sy downtime_s/'
[ "$(jq length "$tmp/page")" -gt 100 ] || fail "the page's keys were not found"

# ---- the examples, with this socket and state directory ----

examples() { # a line each: run COMMAND, or file NAME CONTENT, newlines as \001
        awk 'function plain(s) { gsub(/\\\(aq/, "\047", s); gsub(/\\e/, "\\", s); return s }
                /^\.\\" file: / { name = $3 }
                /^\.Bd / { open = 1; text = ""; next }
                /^\.Ed/ { open = 0; if (name) print "file " name "\t" text; name = ""; next }
                open { text = text plain($0) "\001"; next }
                /^\.Dl / { print "run\t" plain(substr($0, 5)) }' "$page"
}
here() { sed "s,/run/azpar/default.sock,$socket,g; s,azparctl,$azparctl --state $state,g"; }
mkdir "$tmp/home"
n=0
while IFS=$'\t' read -r kind text; do
        if [ "$kind" = run ]; then
                text=$(here <<<"$text")
                (cd "$tmp/home" && timeout 120 bash -euo pipefail -c "$text") >"$tmp/out" 2>&1 || fail "'$text' exits with $?: $(cat "$tmp/out")"
        else
                tr '\001' '\n' <<<"$text" | sed "s,/run/azpar/default.sock,$socket,g" >"$tmp/home/${kind#file }"
        fi
        n=$((n + 1))
done < <(examples)
[ "$n" -ge 7 ] || fail "only $n examples were found"
grep -q "'samples': 0, 'duplicates': [1-9]" "$tmp/out" || fail "the import in Python says $(cat "$tmp/out")"
check '.state != "paused" and .workers_desired == 2'

# stop, by somebody who sends nothing more: the connection ends with azpard.
[ "$(echo '{"command":"stop"}' | ask)" = '{"ok":true}' ] || fail "stop got no answer"
wait "$azpard_pid" || fail "azpard's exit status is $?"
azpard_pid=
