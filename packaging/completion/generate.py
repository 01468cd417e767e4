#!/usr/bin/env python3
"""Shell completion of sdctl, written from what the program itself says.

usage: generate.py bash|zsh|fish SDCTL SCHEMA.toml OUTPUT

Verbs and options come from `sdctl --help` and `sdctl VERB --help`, the words an option takes and what it is for from the
protocol's schema: there is no list here that could fall behind.
"""
import re
import subprocess
import sys
import tomllib

FIELDS = {"negative": "negative_prompt", "guidance": "guidance_scale", "preview-every": "preview"}
DOCS = {
    "socket": "Socket of the daemon.", "json": "Output for programs.", "quiet": "No progress line.",
    "verbose": "Say where the time went.",
    "spawn": "Start the daemon when none runs.", "inline": "Send pixels through the socket.", "help": "Print and exit.",
    "version": "Print and exit.", "output": "Where the picture goes.",
}


def say(sdctl, *arguments):
    return subprocess.run([sdctl, *arguments], check=True, capture_output=True, text=True).stdout


class Option:
    """value: what the help calls it ("" = takes none); the schema knows the words that a field takes."""

    def __init__(self, schema, name, value, doc=None, letter=""):
        self.name, self.takes_value, self.letter, self.choices = name, bool(value), letter, []
        self.is_file = value in ("FILE", "PATH")
        self.doc = doc or DOCS[name]
        field_name = FIELDS.get(name, name.replace("-", "_"))
        for field in [*schema["struct"]["job_parameters"]["fields"], *schema["struct"]["job_submit"]["fields"]]:
            if field["name"] == field_name and value and not self.is_file:
                if field["type"] == "bool":
                    self.choices = ["true", "false"]
                elif "enum" in field:
                    self.choices = schema["enum"][field["enum"]]


class Tool:
    """What the program says: verbs as (name, help), global options, and options as (verbs that take them, options)."""

    def __init__(self, sdctl, schema_path):
        with open(schema_path, "rb") as file:
            schema = tomllib.load(file)
        text = say(sdctl, "--help")
        self.verbs = re.findall(r"^  (\S+) +(.+)$", text, re.M)
        usage = text.splitlines()[0]
        self.globals = [Option(schema, name, value)
                        for name, value in re.findall(r"\[--([\w-]+)(?: ([A-Z]+))?\]", usage)]
        self.globals += [Option(schema, name, "") for name in ("help", "version")]
        lists = {}  # verbs that take the same options share an entry
        for verb, _ in self.verbs:
            text = say(sdctl, verb, "--help")
            found = re.findall(r"^ +(?:-(\w), )?--([\w-]+)(?: (\S+))?  +(.+)$", text, re.M) or [("", "help", "", None)]
            if len(found) == 1 and "-o FILE" in text.splitlines()[0]:
                found.append(("o", "output", "FILE", None))
            lists.setdefault(tuple(found), []).append(verb)
        self.options = [(verbs, [Option(schema, name, value, doc, letter) for letter, name, value, doc in found])
                        for found, verbs in lists.items()]


def spelled(option):
    return f"--{option.name}" + (f" | -{option.letter}" if option.letter else "")


def bash(tool):
    everything = {option.name: option for options in [tool.globals, *(some for _, some in tool.options)] for option in options}
    verbs = " ".join(verb for verb, _ in tool.verbs)
    lines = ["# bash completion for sdctl(1)", "_sdctl()", "{",
             "\tlocal word=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} verb= options= i",
             f'\tlocal verbs="{verbs}"',
             "\tfor ((i = 1; i < COMP_CWORD; i++)); do",
             '\t\tcase " $verbs " in *" ${COMP_WORDS[i]} "*) verb=${COMP_WORDS[i]}; break ;; esac',
             "\tdone",
             "\tcase $verb in",
             "\t\"\") options=\"" + " ".join(f"--{o.name}" for o in tool.globals) + "\" ;;"]
    for verbs, options in tool.options:
        lines.append(f"\t{' | '.join(verbs)}) options=\"" + " ".join(f"--{o.name}" for o in options) + "\" ;;")
    lines += ["\tesac", "\tcase $previous in"]
    for option in everything.values():
        if option.choices:
            lines.append(f'\t{spelled(option)}) COMPREPLY=($(compgen -W "{" ".join(option.choices)}" -- "$word")); return ;;')
        elif option.is_file:
            lines.append(f'\t{spelled(option)}) COMPREPLY=($(compgen -f -- "$word")); return ;;')
    nothing = [spelled(o) for o in everything.values() if o.takes_value and not o.choices and not o.is_file]
    lines += ["\t" + " | ".join(nothing) + ") COMPREPLY=(); return ;;", "\tesac",
              "\tif [[ $word == -* ]]; then",
              '\t\tCOMPREPLY=($(compgen -W "$options" -- "$word"))',
              '\telif [ -z "$verb" ]; then',
              '\t\tCOMPREPLY=($(compgen -W "$verbs" -- "$word"))',
              "\telse",
              '\t\tCOMPREPLY=($(compgen -f -- "$word"))',
              "\tfi", "}", "complete -o filenames -F _sdctl sdctl"]
    return lines


def zsh_option(option):
    doc = re.sub(r"([\[\]:'])", "", option.doc)
    if not option.takes_value:
        return f"'--{option.name}[{doc}]'"
    value = f"({' '.join(option.choices)})" if option.choices else "_files" if option.is_file else ""
    if option.letter:
        return "{-" + option.letter + ",--" + option.name + "=}'[" + doc + "]:file:_files'"
    return f"'--{option.name}=[{doc}]:value:{value}'"


def zsh(tool):
    lines = ["#compdef sdctl", "_sdctl()", "{", "\tlocal state line", "\tlocal -a verbs", "\tverbs=("]
    lines += [f"\t\t'{verb}:" + text.replace("'", "'\\''") + "'" for verb, text in tool.verbs]
    lines += ["\t)", "\t_arguments -C \\"]
    lines += [f"\t\t{zsh_option(option)} \\" for option in tool.globals]
    lines += ["\t\t'1:verb:->verb' '*::argument:->arguments'", "\tcase $state in", "\tverb) _describe verb verbs ;;",
              "\targuments)", "\t\tcase $words[1] in"]
    for verbs, options in tool.options:
        lines.append(f"\t\t{' | '.join(verbs)})")
        lines.append("\t\t\t_arguments \\")
        lines += [f"\t\t\t\t{zsh_option(option)} \\" for option in options]
        lines += ["\t\t\t\t'*:argument:_files'", "\t\t\t;;"]
    return lines + ["\t\tesac", "\t\t;;", "\tesac", "}", '_sdctl "$@"']


def fish_option(option, condition):
    doc = option.doc.replace("'", "")
    line = f"complete -c sdctl -n '{condition}' -l {option.name}" + (f" -s {option.letter}" if option.letter else "")
    if option.choices:
        line += f" -x -a '{' '.join(option.choices)}'"
    elif option.takes_value:
        line += " -r -F" if option.is_file else " -x"
    return line + f" -d '{doc}'"


def fish(tool):
    lines = ["# fish completion for sdctl(1)"]
    lines += [fish_option(option, "__fish_use_subcommand") for option in tool.globals]
    for verb, text in tool.verbs:
        text = text.replace("'", "\\'")
        lines.append(f"complete -c sdctl -f -n __fish_use_subcommand -a {verb} -d '{text}'")
    for verbs, options in tool.options:
        lines += [fish_option(option, f"__fish_seen_subcommand_from {' '.join(verbs)}") for option in options]
    return lines


def main():
    shell, sdctl, schema, output = sys.argv[1:]
    lines = {"bash": bash, "zsh": zsh, "fish": fish}[shell](Tool(sdctl, schema))
    with open(output, "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
