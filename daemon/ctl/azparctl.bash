# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# Completion of azparctl for bash; installed as bash-completion/completions/azparctl.
#
# Commands and options, and what they take, come from azparctl --help, so they are those of the azparctl that is installed:
# a row there is "  NAME ARGUMENT text", ARGUMENT one of DIR, PATH, NAME, or another word that nothing is known about.

# Rows of "name argument" (argument: - if there is none) of a part of the help: commands or options.
_azparctl_rows() { # PROGRAM commands|options
        "$1" --help 2>/dev/null | awk -v part="$2:" '
                /^[a-z]+:$/ { inside = $0 == part; next }
                inside && /^  / { sub(/^--/, "", $1); print $1, $2 ~ /^[A-Z]+$/ ? $2 : "-" }'
}

# What fits an argument of that kind.
_azparctl_argument() { # KIND WORD
        local sockets=${AZPARCTL_SOCKETS:-/run/azpar} name
        case $1 in
        DIR)
                compopt -o filenames 2>/dev/null
                mapfile -t COMPREPLY < <(compgen -d -- "$2")
                ;;
        PATH)
                compopt -o filenames 2>/dev/null
                mapfile -t COMPREPLY < <(compgen -f -- "$2")
                ;;
        NAME)
                for name in "$sockets"/*.sock; do
                        name=${name##*/}
                        name=${name%.sock}
                        [[ $name != '*' && $name == "$2"* ]] && COMPREPLY+=("$name")
                done
                ;;
        esac
}

_azparctl() {
        local word=${COMP_WORDS[COMP_CWORD]} program=${COMP_WORDS[0]} command= kind= wanted= i name argument options=" " commands=" "
        local -A takes=()

        COMPREPLY=()
        program=${program/#\~/$HOME}
        while read -r name argument; do
                options+="--$name "
                takes[--$name]=$argument
        done < <(_azparctl_rows "$program" options)
        while read -r name argument; do
                commands+="$name "
                takes[$name]=$argument
        done < <(_azparctl_rows "$program" commands)

        # What stands in front of the word decides: an option that waits for its value, or the command for its argument.
        for ((i = 1; i < COMP_CWORD; i++)); do
                name=${COMP_WORDS[i]}
                [[ $name == = || -z $name ]] && continue # bash breaks --option=value there
                if [ -n "$kind" ]; then
                        kind=
                elif [[ $options == *" $name "* ]]; then
                        kind=${takes[$name]#-}
                elif [ -n "$command" ]; then
                        wanted=
                elif [[ $commands == *" $name "* ]]; then
                        command=$name wanted=${takes[$name]#-}
                fi
        done
        [[ $word == = ]] && word=

        if [ -n "$kind" ]; then
                _azparctl_argument "$kind" "$word"
        elif [[ $word == -* ]]; then
                mapfile -t COMPREPLY < <(compgen -W "$options" -- "$word")
        elif [ -n "$wanted" ]; then
                _azparctl_argument "$wanted" "$word"
        elif [ -z "$command" ]; then
                mapfile -t COMPREPLY < <(compgen -W "$commands" -- "$word")
        fi
}

complete -F _azparctl azparctl
