"""``ascend-otel completion``: a script for the shell, made of the parser."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

#: Default of a parser that names the words to offer besides its options and subcommands.
WORDS = "completion_words"

_SCRIPT = """\
_ascend_otel() {{
    local number word="" path="" before="" words="" options=""
    local current="${{COMP_WORDS[COMP_CWORD]}}"
    for ((number = 1; number < COMP_CWORD; number++)); do
        word="${{COMP_WORDS[number]}}"
        before="$word"
        case "$path/$word" in
            {paths}) path="$path/$word" ;;
        esac
    done
    case "$path" in
{words}
    esac
    if [[ "$current" == -* ]]; then words="$options"; fi
    case "$path $before" in
{values}
    esac
    COMPREPLY=($(compgen -W "$words" -- "$current"))
    if [[ "${{COMPREPLY[0]-}}" == *= ]]; then compopt -o nospace 2> /dev/null; fi
}}
complete -o default -F _ascend_otel ascend-otel
"""
_ZSH = "autoload -U +X compinit && compinit -u\nautoload -U +X bashcompinit && bashcompinit\n"


class _Node(NamedTuple):
    path: str
    words: list[str]
    options: list[str]
    #: Choices of each option with a value; empty where it is a file or anything else.
    values: dict[str, list[str]]


def add(commands: Any) -> None:
    """Add the command to a parser's subparsers."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "completion",
        help="print a script that completes commands in the shell",
        description='For bash: eval "$(ascend-otel completion bash)"; for zsh the same with zsh.',
    )
    parser.add_argument("shell", choices=("bash", "zsh"))
    parser.set_defaults(run=run, **{WORDS: ["bash", "zsh"]})


def run(options: argparse.Namespace) -> int:
    """Print the script."""
    nodes = list(_walk(options.parser, ""))
    script = _SCRIPT.format(
        paths="|".join(node.path for node in nodes if node.path),
        words="\n".join(
            f'        "{node.path}") words="{" ".join(node.words)}" options="{" ".join(node.options)}" ;;'
            for node in nodes
        ),
        values="\n".join(
            f'        "{node.path} {option}") words="{" ".join(choices)}" ;;'
            for node in nodes
            for option, choices in node.values.items()
        ),
    )
    sys.stdout.write(_ZSH + script if options.shell == "zsh" else script)
    return 0


def _walk(parser: argparse.ArgumentParser, path: str) -> Iterator[_Node]:
    words = list(parser.get_default(WORDS) or [])
    options: list[str] = []
    values: dict[str, list[str]] = {}
    below: list[_Node] = []
    for action in parser._actions:
        options += action.option_strings
        if isinstance(action, argparse._SubParsersAction):
            for name, sub in action.choices.items():
                words.append(name)
                below += _walk(sub, f"{path}/{name}")
        elif action.nargs != 0:
            values |= {option: list(map(str, action.choices or ())) for option in action.option_strings}
    yield _Node(path, words, options, values)
    yield from below
