"""Every command in the pages exists, with its options, and every command that exists is in the reference."""

import re
import shlex
import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from orchestrator import Settings
from orchestrator.cli import app
from tests.docs import pages

CLI: Any = typer.main.get_command(app)
PROSE = [pages.name_of(path) for path in pages.paths()]


def _written() -> Iterator[tuple[str, str]]:
    """(page, command line) of every `orchestrator …` in a shell block, an indented line or a code span."""
    for block in pages.blocks("sh"):
        yield from ((block.page, part) for line in block.lines for part in line.split(" | "))
    for page in PROSE:
        text = pages.prose(page)
        yield from (
            (page, line.strip()) for line in re.findall(r"^    +((?:orchestrator|make) .*)$", text, re.MULTILINE)
        )
        yield from ((page, span) for span in pages.code(text) if re.match(r"(?:orchestrator|make) [^…]*$", span))


def _words(line: str) -> list[str]:
    return shlex.split(line, comments=True)


LINES = sorted(set(_written()))
OURS = [(page, line) for page, line in LINES if _words(line)[0] == "orchestrator"]


def parse(words: list[str]) -> list[str]:
    """The names of the command and its groups. Raises the error of the command line if it cannot be parsed."""
    command, path = CLI, []
    context = CLI.make_context("orchestrator", words, resilient_parsing=False)
    while getattr(command, "commands", None) and (rest := [*context._protected_args, *context.args]):
        name, command, words = command.resolve_command(context, rest)
        path.append(name)
        context = command.make_context(name, words, parent=context)
    return path


def _is_name(words: list[str]) -> bool:
    """Whether the words are the mere name of a command, as in "see `orchestrator run show`"."""
    return any(path == tuple(words) for path, _ in _all(CLI))


@pytest.mark.parametrize(("page", "line"), OURS, ids=[line for _, line in OURS])
def test_a_command_can_be_given_as_it_is_written(page: str, line: str) -> None:
    words = _words(line)[1:]
    assert _is_name(words) or parse(words)


def test_other_lines_are_few_and_known() -> None:
    """So that no block hides a line that nobody checks."""
    elsewhere = {"orchestrator", "make", "export", "curl"}  # the tour runs the last one
    others = {line for _, line in LINES if _words(line)[0] not in elsewhere}
    assert others == {
        *("kill -9 PID", "pip install '.[embedded]'"),
        "celery -A bakery worker",
        *("pip install pytest", "pip install 'flow-orchestrator[embedded]' pytest", "pytest test_shop.py"),
    }
    extras = tomllib.loads(pages.text_of("pyproject.toml"))["project"]["optional-dependencies"]
    assert "embedded" in extras


def test_the_chores_that_pages_name_exist() -> None:
    chores = set(re.findall(r"^([a-z-]+):", pages.text_of("Makefile"), re.MULTILINE))
    named = {_words(line)[1] for _, line in LINES if _words(line)[0] == "make"}
    assert {"demo", "test"} <= named <= chores


def test_the_variables_of_a_block_make_settings() -> None:
    checked = 0
    for block in pages.blocks("sh"):
        words = [_words(line) for line in block.lines]
        given = dict(pair.split("=", 1) for first, *rest in words if first == "export" for pair in rest)
        if given:
            Settings.from_env(given)
            checked += 1
    assert checked >= 2


def _all(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, child in getattr(command, "commands", {}).items():
        if not child.hidden:
            yield (*path, name), child
            yield from _all(child, (*path, name))


def test_every_command_is_in_the_reference() -> None:
    described = {
        tuple(words if _is_name(words := _words(line)[1:]) else parse(words))
        for page, line in OURS
        if page == "docs/reference.md"
    }
    leaves = {path for path, command in _all(CLI) if not getattr(command, "commands", None)}
    assert leaves <= described


@pytest.mark.parametrize("page", PROSE)
def test_options_that_are_named_exist(page: str) -> None:
    known = {option for _, command in _all(CLI) for parameter in command.params for option in parameter.opts}
    spans = [span.split()[0] for span in pages.code(pages.prose(page)) if re.match(r"--[a-z]", span)]
    assert [option for option in spans if option not in known | {"--version", "--help"}] == []
