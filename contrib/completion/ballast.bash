# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# Completion of ballast's command lines for bash. What there is to complete, commands,
# options and what their values are, is read from --help, so that it is never older
# than the program.

# All of `ballast [COMMAND] --help`.
_ballast_help() {
    "${COMP_WORDS[0]/#\~\//$HOME/}" "$@" --help 2>/dev/null
}

_ballast_commands() {
    _ballast_help | sed -n '/^Commands:/,/^$/s/^  \([a-z][a-z-]*\) .*/\1/p'
}

# The options of a command.
_ballast_options() {
    _ballast_help "$1" | sed -n 's/^  \(--\{0,1\}[a-z][a-z-]*\).*/\1/p'
    echo --help
}

# What the value of a command's option is called: "SIZE", "crash|pause"; nothing if it has none.
_ballast_value() {
    _ballast_help "$1" | sed -n "s/^  $2 \([^ ][^ ]*\)\( .*\)\{0,1\}$/\1/p"
}

# Says what a command wants beside its options: NAME, TRACE, QEMU.
_ballast_operands() {
    _ballast_help "$1" | sed -n '1{s/^Usage: ballast [a-z-]*//;s/\[\{0,1\}--*[a-z-]* [A-Z]*\]*//g;p;}'
}

_ballast_files() {
    compopt -o filenames 2>/dev/null
    mapfile -t COMPREPLY < <(compgen -f -- "$1")
}

# Completes an option's value of this kind.
_ballast_complete_value() {
    case $1 in
    *'|'*) mapfile -t COMPREPLY < <(compgen -W "${1//|/ }" -- "$2") ;;
    TRACE | PICTURE | PATH | FILE) _ballast_files "$2" ;;
    esac
}

# Completes a word that is no option. $1: the command, $2: the word, $3: how many came before it,
# $4: where the first of them is.
_ballast_complete_operand() {
    local operands
    operands=$(_ballast_operands "$1")
    case $operands in
    *QEMU*)
        if [ "$3" -gt 0 ] && declare -F _command_offset >/dev/null; then
            _command_offset "$4"
        elif [ "$3" -gt 0 ]; then
            _ballast_files "$2"
        else
            mapfile -t COMPREPLY < <(compgen -c -- "$2")
        fi
        ;;
    *NAME...*) mapfile -t COMPREPLY < <(compgen -W "$("${COMP_WORDS[0]}" ls --names 2>/dev/null)" -- "$2") ;;
    *NAME*)
        [ "$3" -gt 0 ] ||
            mapfile -t COMPREPLY < <(compgen -W "$("${COMP_WORDS[0]}" ls --names 2>/dev/null)" -- "$2")
        ;;
    *TRACE*) [ "$3" -gt 0 ] || _ballast_files "$2" ;;
    esac
}

_ballast() {
    local command=${COMP_WORDS[1]} word=${COMP_WORDS[COMP_CWORD]} value
    local -i at operands=0 first=0
    COMPREPLY=()
    if [ "$COMP_CWORD" -eq 1 ]; then
        mapfile -t COMPREPLY < <(compgen -W "$(_ballast_commands) --help --version" -- "$word")
        return
    fi
    for ((at = 2; at < COMP_CWORD; at++)); do
        case ${COMP_WORDS[at]} in
        --)
            # What follows is QEMU's, options too.
            if [ "$operands" -eq 0 ]; then
                _ballast_complete_operand "$command" "$word" $((COMP_CWORD - at - 1)) $((at + 1))
                return
            fi
            ;;
        -*)
            value=$(_ballast_value "$command" "${COMP_WORDS[at]}")
            if [ -n "$value" ] || [ "${COMP_WORDS[at + 1]}" = = ]; then
                # bash takes "--option=value" for three words.
                [ "${COMP_WORDS[at + 1]}" != = ] || at+=1
                at+=1
                if [ "$at" -gt "$COMP_CWORD" ]; then
                    word=
                fi
                if [ "$at" -ge "$COMP_CWORD" ]; then
                    _ballast_complete_value "$value" "$word"
                    return
                fi
            fi
            ;;
        *)
            [ "$operands" -gt 0 ] || first=$at
            operands+=1
            # The rest is QEMU's.
            [ "$command" != run ] || break
            ;;
        esac
    done
    if [[ $word == -* && ! ($command == run && $operands -gt 0) ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$(_ballast_options "$command")" -- "$word")
    else
        _ballast_complete_operand "$command" "$word" "$operands" "$first"
    fi
}

complete -F _ballast ballast
