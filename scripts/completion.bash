# SPDX-License-Identifier: MIT
# Completion of bash for fathom: commands and options are asked from the binary itself; arguments are file names, and for
# pull and -m also the catalogue's.
_fathom() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} cmd=${COMP_WORDS[1]}
    if [ "$COMP_CWORD" -eq 1 ]; then
        mapfile -t COMPREPLY < <(compgen -W "$("${COMP_WORDS[0]}" --help=words 2>/dev/null) help --help --version" -- "$cur")
    elif [[ $cur == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$("${COMP_WORDS[0]}" "$cmd" --help=words 2>/dev/null)" -- "$cur")
    else
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        if [[ $cmd == pull || $prev == -m || $prev == --model ]]; then
            mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY < <(compgen -W "smollm2 gemma3" -- "$cur")
        fi
    fi
}
complete -o filenames -F _fathom fathom
