"""The documentation: its commands exist with their options, its make targets too, and its links lead somewhere."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer.main

from milton_assets.cli.app import build_app

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "goldens").rglob("*.md")),
]
COMMANDS = typer.main.get_command(build_app())


def shell_lines(page: Path) -> list[str]:
    """The commands in the page's shell blocks, continued lines joined."""
    blocks = re.findall(r"```(?:sh|bash|console)\n(.*?)```", page.read_text(), re.DOTALL)
    joined = "\n".join(blocks).replace("\\\n", " ")
    return [line.strip().removeprefix("$ ") for line in joined.splitlines() if line.strip()]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def check_milton(words: list[str]) -> None:
    """Follow the words through the command tree; every option must be one of the command's."""
    command = COMMANDS
    while words and hasattr(command, "get_command") and (below := command.get_command(None, words[0])) is not None:
        command, words = below, words[1:]
    assert not hasattr(command, "get_command"), f"milton {words} is no verb"
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    assert {word.split("=")[0] for word in words if word.startswith("--")} <= known | {"--help"}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_milton_command_exists_with_its_options(page):
    for line in shell_lines(page):
        for part in re.split(r"&&|\||;", line):
            words = [w for w in shlex.split(part, comments=True) if "=" not in w or w.startswith("-")]
            if words and words[0] == "milton":
                check_milton(words[1:])


SOURCES = [path for folder in ("milton_assets", "resources") for path in sorted((ROOT / folder).rglob("*.py"))]
ANY_VERB = re.compile(r"^(?:[A-Z]+|\{.*\}|-.*)$")
"""A verb that the program knows when it runs, as in `milton bench NAME` and `milton rollout {verb}`; or an option."""


def unknown_in_a_sentence(command: str) -> list[str]:
    """What `milton` does not have of a command that a sentence names: its verb, or some options."""
    at, words = COMMANDS, [word.strip("[]|") for word in command.replace('"', "").split()]
    while words and hasattr(at, "get_command") and (below := at.get_command(None, words[0])) is not None:
        at, words = below, words[1:]
    if hasattr(at, "get_command"):
        of_ones_own = at.name == "bench" or not words or ANY_VERB.match(words[0])
        return [] if of_ones_own else [command]
    known = {option for parameter in at.params for option in (*parameter.opts, *parameter.secondary_opts)}
    options = [word.split("=")[0] for word in words if word.startswith("--")]
    return [f"{command}: {option}" for option in options if option not in known | {"--help"}]


def test_every_command_that_a_sentence_or_a_message_names_exists_with_its_options():
    named = [(path, cmd) for path in (*PAGES, *SOURCES) for cmd in re.findall(r"`milton (\w[^`]*)`", path.read_text())]
    assert len(named) > 200
    assert [(name_of(path), bad) for path, cmd in named for bad in unknown_in_a_sentence(cmd)] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_make_target_exists(page):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"`make ([a-z-]+)", page.read_text()))
    named |= {line.split()[1] for line in shell_lines(page) if re.match(r"make [a-z]", line)}
    assert named <= targets


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_within_the_project_leads_somewhere(page):
    links = re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_the_pages_show_commands_at_all():
    assert sum(line.startswith("milton ") for page in PAGES for line in shell_lines(page)) > 5


PROOFS = pytest.mark.parametrize(
    "page", [ROOT / "docs" / "security.md", ROOT / "docs" / "compatibility.md"], ids=name_of
)


@PROOFS
def test_every_test_that_a_page_calls_a_proof_exists(page):
    named = set(re.findall(r"`(test_\w+)`", page.read_text()))
    there = {
        name
        for module in (ROOT / "tests").rglob("*.py")
        for name in re.findall(r"^(?:async )?def (test_\w+)", module.read_text(), re.MULTILINE)
    }
    assert len(named) > 10
    assert named - there == set()


@PROOFS
def test_every_row_of_a_table_of_proofs_names_a_test(page):
    tables = re.findall(r"((?:^\|.*\n)+)", page.read_text(), re.MULTILINE)
    proofs = [table.splitlines() for table in tables if "shown by" in table.splitlines()[0]]
    assert proofs
    assert [row for _, _, *rows in proofs for row in rows if "`test_" not in row] == []


def test_every_picture_is_one_that_the_script_draws():
    script = (ROOT / "docs/make_pictures.py").read_text()
    drawn = [picture.name for picture in (ROOT / "docs/images").iterdir()]
    assert drawn and [name for name in drawn if f'IMAGES / "{name}"' not in script] == []
