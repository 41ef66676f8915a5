#!/bin/bash
# SPDX-License-Identifier: MIT
# azparctl's completion for bash: all commands and options that --help has, and nothing else; instances, files and
# directories where they belong. A bash of its own sources it, as bash-completion does, and asks what it would offer.
set -euo pipefail
azparctl=$(readlink -f "${AZPAR_BUILD:-build/release}/azparctl")
completion=$(readlink -f daemon/ctl/azparctl.bash)
tmp=$(mktemp -d "${TMPDIR:-/tmp}/azpar-completion-XXXXXX")
trap 'rm -rf "$tmp"' EXIT
fail() { echo "FAIL: $*" && exit 1; }

# offers WORD...: what is offered for the last word, sorted, in one line.
offers() {
        (
                cd "$tmp/home"
                # shellcheck disable=SC2016
                PATH=$tmp/bin:$PATH AZPARCTL_SOCKETS=$tmp/run bash --norc --noprofile -uc '
                        . "$0"
                        spec=$(complete -p azparctl)
                        [[ $spec == "complete -F _azparctl azparctl" ]] || exit 1
                        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
                        _azparctl azparctl "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
                        printf "%s\n" "${COMPREPLY[@]}"' "$completion" azparctl "$@"
        ) | sort | xargs
}
expect() { # OFFERED WORD...
        local wanted=$1 found
        shift
        found=$(offers "$@")
        [ "$found" = "$wanted" ] || fail "azparctl $*: offers '$found', not '$wanted'"
}

mkdir -p "$tmp/bin" "$tmp/run" "$tmp/home/data/worker_0" "$tmp/home/other"
ln -s "$azparctl" "$tmp/bin/azparctl"
touch "$tmp/home/date" "$tmp/run/default.sock" "$tmp/run/c4.sock" "$tmp/run/other.txt"

# The words of --help, found in another way than the completion does.
"$azparctl" --help >"$tmp/help"
commands=$(sed -n '/^commands:/,/^$/s/^  \([a-z-]*\) .*/\1/p' "$tmp/help" | sort | xargs)
options=$(grep -oE '^  --[a-z-]+' "$tmp/help" | sort | xargs)
[[ " $commands " == *" status "* && " $options " == *" --json "* ]] || fail "--help is not understood: $commands; $options"
expect "$commands" ""
expect "$options" --
expect "$options" status --

expect "status stop" st
expect "--instance --interval" --in
expect "c4 default" --instance ""
expect "c4" --instance c
expect "c4" --instance = c
expect "data other" --state ""
expect "data date" --socket da
expect "data/worker_0" --json import data/w
expect "data" import --keep da # an option between a command and its argument
expect "data other" export ""
expect "" --interval ""
expect "" workers ""
expect "" status ""
expect "$commands" --json --state data ""
expect "$commands" --state import "" # the value of an option is no command

# Negative control: an azparctl with one more command is one more word.
cat >"$tmp/more" <<'ENDMORE'
#!/bin/sh
cat "$(dirname "$0")/../help" | sed 's/^  status .*/&\n  zebra      DIR   be striped/'
ENDMORE
chmod +x "$tmp/more"
rm "$tmp/bin/azparctl"
mv "$tmp/more" "$tmp/bin/azparctl"
expect "zebra" z
expect "data other" zebra ""
echo "$(wc -w <<<"$commands") commands, $(wc -w <<<"$options") options"
