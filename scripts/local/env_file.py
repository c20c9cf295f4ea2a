"""Runs a program with the variables of a file such as wsgi_service/.env, read as Docker Compose reads an `env_file`.

USAGE: env_file.py FILE KEPT PROGRAM [ARGUMENT...]    KEPT: the names, separated by commas, that the file does not set
"""

import os
import string
import sys
from pathlib import Path

from dotenv.parser import parse_stream


class Text(string.Template):
    """A value that is not in single quotes: `$NAME`, `${NAME}`, `${NAME:-default}`, and `$$` for a dollar sign."""

    braceidpattern = r"[_a-z][_a-z0-9]*(?::?-[^}]*)?"


class Variables(dict[str, str]):
    """Variables by their names; one that is not set is empty."""

    def __missing__(self, reference: str) -> str:
        name, _, default = reference.partition("-")
        return self.get(name.rstrip(":")) or default if name.endswith(":") else self.get(name, default)


def read(file: Path, variables: Variables) -> Variables:
    """Return what the file sets; exit with a line that says which line of it is neither a variable nor a comment."""
    found = Variables()
    with file.open(encoding="utf-8") as stream:
        for binding in parse_stream(stream):
            if binding.error:
                text = binding.original.string
                blank_lines = text[: -len(text.lstrip())].count("\n")
                sys.exit(f"{file}, line {binding.original.line + blank_lines}: neither NAME=value nor a comment")
            if binding.key is None or binding.value is None:  # a comment; a name alone is what the environment has
                continue
            value, quote = binding.value, binding.original.string.partition("=")[2].lstrip()[:1]
            if quote == '"':
                value = value.replace(r"\$", "$$")
            if quote != "'":
                value = Text(value).safe_substitute(Variables(variables | found))
            found[binding.key] = value
    return found


def main() -> None:
    """Do what the command line asks for."""
    file, kept, *command = sys.argv[1:]
    if Path(file).exists():
        found = read(Path(file), Variables(os.environ))
        os.environ.update({name: value for name, value in found.items() if name not in kept.split(",")})
    os.execvp(command[0], command)


main()
