"""What the documents say is so: links lead somewhere, commands and configurations work, no name is missing."""

from __future__ import annotations

import ast
import inspect
import re
import shlex
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import click
import pytest
import yaml
from kairos_net_vpn.drops import VpnDrop
from kairos_transport_tls.drops import TlsDrop

from kairos_core import Drop, hookspecs, interfaces
from kairos_core.cli import kairos
from kairos_core.cli.table import ALIASES, COMMANDS
from kairos_core.config import parse_config
from kairos_core.config.shape import Model, fields, models
from kairos_core.protocol import buckets
from kairos_core.protocol.token import format_token, new_token
from kairos_core.runtime.offers import Kind
from kairos_core.runtime.plugins import load_plugins

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(
    page for page in ROOT.rglob("*.md") if not any(part.startswith(".") for part in page.relative_to(ROOT).parts)
)
TOKEN = format_token(new_token(lambda alphabet: alphabet[7]))
SHELL = ("sh", "bash", "shell", "console")


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@dataclass(frozen=True)
class Fence:
    """A fenced block of a page."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{name_of(self.page)}:{self.line}"


def fences(page: Path) -> Iterator[Fence]:
    """Yield the fenced blocks of a page, those inside of lists too."""
    inside: list[str] | None = None
    began, language = 0, ""
    for number, line in enumerate(page.read_text().splitlines(), 1):
        mark = re.match(r"\s*```(\S*)", line)
        if mark and inside is None:
            inside, began, language = [], number, mark[1]
        elif mark and inside is not None:
            yield Fence(page, began, language, "\n".join(inside) + "\n")
            inside = None
        elif inside is not None:
            inside.append(line)
    assert inside is None, f"{name_of(page)}:{began}: the block is not closed"


def prose(page: Path) -> str:
    """Return a page without its fenced blocks."""
    return re.sub(r"^\s*```.*?^\s*```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)


ALL_FENCES = [fence for page in PAGES for fence in fences(page)]
YAML = [fence for fence in ALL_FENCES if fence.language == "yaml"]


# -- links ------------------------------------------------------------------------------------------------------


def links(page: Path) -> Iterator[str]:
    """Yield the targets of a page's links that stay in this repository."""
    without_code = re.sub(r"`[^`\n]*`", "", prose(page))
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code):
        if not re.match(r"[a-z]+:", target):
            yield target


def anchors(page: Path) -> set[str]:
    """Return the anchors that a page's headings have, as GitHub and GitLab make them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in links(page):
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), f"{name_of(page)} links to {target}, which is not there"
        assert found.is_relative_to(ROOT), f"{name_of(page)} links to {target}, out of the repository"
        assert not anchor or anchor in anchors(found), f"{name_of(page)} links to {target}: no such heading"


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in reached:
            continue
        reached.add(page)
        targets = [(page.parent / target.partition("#")[0]).resolve() for target in links(page)]
        waiting += [target for target in targets if target.suffix == ".md"]
    assert {name_of(page) for page in PAGES} - {name_of(page) for page in reached} == set()


# -- commands ---------------------------------------------------------------------------------------------------


def command_lines(text: str) -> Iterator[list[str]]:
    """Yield the words after `kairos` of each call of it in shell text."""
    joined = re.sub(r"\\\n\s*", " ", text)
    for line in joined.splitlines():
        for part in re.split(r"[;|&\n]|\$\(|\)", re.sub(r"(^|\s)#.*", "", line)):
            # What may come before a command: a prompt, sudo, variables.
            command = re.sub(r"^\s*(?:[$#] )?(?:sudo )?(?:\w+=\S* )*", "", part).partition(">")[0]
            words = shlex.split(command)
            if len(words) > 1 and (words[0] == "kairos" or words[0].endswith("/bin/kairos")):
                yield words[1:]


def spoken_commands(text: str) -> Iterator[list[str]]:
    """Yield the words of each `kairos …` in the prose, without placeholders and brackets."""
    for call in re.findall(r"`kairos ([^`\n]+)`", text):
        words = re.sub(r"[\[\]…|]", " ", call).split()
        yield [word for word in words if not word.isupper() and "=" not in word]


def find_command(words: list[str]) -> tuple[click.Command, click.Context, list[str]]:
    """Walk down the groups. Raises click.UsageError for a command that is not there."""
    command: click.Command = kairos
    context = click.Context(kairos, info_name="kairos")
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        name, *words = words
        found = command.get_command(context, name)
        if found is None:
            raise click.UsageError(f"no command is called {name}")
        command, context = found, click.Context(found, info_name=name, parent=context)
    return command, context, words


def check_call(words: list[str]) -> None:
    """Parse a call as click does, and convert what can be converted without touching files."""
    command, context, rest = find_command(words)
    values, left, _ = command.make_parser(context).parse_args(args=list(rest))
    assert not left, f"kairos {' '.join(words)}: {left} is too much"
    for parameter in command.params:
        value = values.get(parameter.name or "")
        if isinstance(value, str) and not isinstance(parameter.type, (click.Path, click.File)):
            parameter.type.convert(value, parameter, context)
        is_missing = (
            isinstance(parameter, click.Argument) and parameter.required and not isinstance(value, (str, tuple))
        )
        assert not is_missing, f"kairos {' '.join(words)}: {parameter.name} is missing"


@pytest.mark.parametrize("fence", [f for f in ALL_FENCES if f.language in SHELL], ids=str)
def test_every_command_in_a_shell_block_is_understood(fence: Fence) -> None:
    for words in command_lines(fence.text):
        try:
            check_call(words)
        except click.UsageError as error:
            pytest.fail(f"{fence}: kairos {' '.join(words)}: {error.format_message()}")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_command_and_option_named_in_the_prose_is_there(page: Path) -> None:
    for words in spoken_commands(prose(page)):
        if words and not words[0].startswith("-"):
            command, _, rest = find_command(words)
            options = {each for param in command.params for each in (*param.opts, *param.secondary_opts)}
            wrong = [word for word in rest if word.startswith("-") and word not in options]
            assert not wrong, f"{name_of(page)}: `kairos {' '.join(words)}`: no option {wrong}"


def test_there_are_commands_to_check() -> None:
    called = {words[0] for fence in ALL_FENCES if fence.language in SHELL for words in command_lines(fence.text)}
    assert {"start", "bridge", "status", "get-kubeconfig", "generate-token", "role", "ledger", "plugins"} <= called


def test_the_check_of_commands_finds_mistakes() -> None:
    for wrong in ("kairos statsu", "kairos status --wacth", "kairos role set node-1 boss", "kairos role set node-1"):
        (words,) = command_lines(f"sudo {wrong}\n")
        with pytest.raises((click.UsageError, AssertionError)):
            check_call(words)
    for right in ("kairos generate-token --nodes 5 > token", "KAIROS_TOKEN=$(cat token) kairos bridge  # here"):
        (words,) = command_lines(right)
        check_call(words)


@pytest.mark.parametrize("fence", [f for f in ALL_FENCES if f.language in SHELL], ids=str)
def test_every_use_of_run_is_one_that_it_has(fence: Fence) -> None:
    # The case labels of the script, such as `python | kairos | pytest)`.
    labels = re.findall(r"^([\w| -]+)\) ", (ROOT / "run").read_text(), flags=re.MULTILINE)
    known = {word for label in labels for word in re.split(r"[| ]+", label)}
    for command, rest in re.findall(r"\./run(?: +(\S+)([^#\n]*))?", fence.text):
        assert command in known, f"{fence}: ./run {command}"
        if command in ("demo", "kairos"):
            check_call([*(["demo"] if command == "demo" else []), *shlex.split(rest)])


@pytest.mark.parametrize("fence", [f for f in ALL_FENCES if f.language == "python"], ids=str)
def test_every_example_in_python_compiles_and_imports_what_is_there(fence: Fence) -> None:
    for node in ast.walk(ast.parse(fence.text, str(fence))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("kairos_"):
            module = import_module(node.module)
            assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []


# -- configuration ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fence", YAML, ids=str)
def test_every_configuration_is_valid_and_gives_no_warning(fence: Fence) -> None:
    text = re.sub(r"network_token:.*", f"network_token: {TOKEN}", fence.text)
    document = yaml.safe_load(text)
    assert isinstance(document, dict), f"{fence} is no configuration"
    # A page that shows one block alone means it beside a token.
    documents = [("the token", f"p2p: {{network_token: {TOKEN}}}"), (str(fence), text)]
    assert parse_config(documents, load_plugins().sections()).warnings == ()


def test_every_key_named_in_the_prose_is_one_of_the_configuration() -> None:
    known = _documented_keys()
    for page in PAGES:
        for key in re.findall(r"`((?:p2p|kubevip|k3s|k3s-agent)\.[\w.-]+)(?::[^`]*)?`", prose(page)):
            assert key in known, f"{name_of(page)} names {key}"


def _documented_keys() -> set[str]:
    """Return all paths of the configuration, those of plugins' sections too, and the old spellings."""
    paths: set[str] = set()

    def walk(model: Model, path: str) -> None:
        for name, key in fields(model).items():
            here = f"{path}.{name}" if path else name
            paths.add(here)
            for each in models(key.annotation):
                walk(each, here)

    walk(import_module("kairos_core.config.blocks").CloudConfig, "")
    for section, model in load_plugins().sections().items():
        paths.add(section)
        walk(model, section)
    environment = {f"p2p.vpn.env.{name}" for name in ("ADDRESS", "DHCP", "ROUTER")}
    old = {"p2p.ha", "p2p.vpn.auto"}
    of_examples = {"p2p.file_discovery"}
    return paths | environment | old | of_examples


# -- names ------------------------------------------------------------------------------------------------------


def rows(page: Path) -> dict[str, list[str]]:
    """Return the cells of each table row that begins with one name in backquotes."""
    found = {}
    for line in prose(page).splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if line.startswith("| `") and re.fullmatch(r"`[\w.()]+`", cells[0]):
            found[cells[0].strip("`")] = [cell.rstrip("| ") for cell in cells[1:]]
    return found


def test_every_drop_is_in_the_reference_and_no_other() -> None:
    names = {*map(str, Drop), *map(str, TlsDrop), *(f"vpn_{drop}" for drop in VpnDrop)}
    documented = rows(DOCS / "reference" / "drops.md")
    assert documented.keys() == names
    assert all(len(cells) == 2 and all(cells) for cells in documented.values())


def test_every_hook_is_in_the_reference() -> None:
    documented = rows(DOCS / "reference" / "plugins.md")
    assert {kind.hook for kind in Kind} <= documented.keys()
    assert all(getattr(hookspecs, kind.hook).__doc__ for kind in Kind)


@pytest.mark.parametrize(
    "name",
    ["Discovery", "Transport", "Stream", "LedgerStore", "Network", "Engine", "Beacon", "TransportHost", "NetworkHost"],
)
def test_every_method_of_the_interfaces_is_in_the_reference(name: str) -> None:
    (methods, *_) = rows(DOCS / "reference" / "plugins.md")[name]
    interface = getattr(interfaces, name)
    expected = interface.__abstractmethods__ | inspect.get_annotations(interface).keys()
    assert {each for each in expected if not re.search(rf"`{each}\b", methods)} == set()
    assert set(re.findall(r"`(\w+)\(", methods)) == set(interface.__abstractmethods__)


def test_every_kind_of_plugin_names_its_check() -> None:
    checks = rows(DOCS / "reference" / "plugins.md")
    for kind in set(Kind) - {Kind.COMMANDS}:
        module, _, function = checks[kind.value][0].strip("`").rpartition(".")
        assert callable(getattr(import_module(module), function))


def test_every_bucket_is_in_the_reference_with_its_policy() -> None:
    constants = {value for name, value in vars(buckets).items() if name.isupper() and isinstance(value, str)}
    documented = rows(DOCS / "reference" / "ledger.md")
    assert constants <= documented.keys()
    for bucket in (*constants, "vpn"):
        assert documented[bucket][0] == f"`{buckets.policy_of(bucket)}`", bucket
    assert {str(policy) for policy in buckets.Policy} <= documented.keys()


def test_the_limits_in_the_reference_are_those_of_the_code() -> None:
    documented = {name: cells[0] for name, cells in rows(DOCS / "reference" / "ledger.md").items() if "." in name}
    assert len(documented) > 8
    for name, value in documented.items():
        module, _, constant = name.partition(".")
        assert float(value) == getattr(import_module(f"kairos_core.protocol.{module}"), constant), name


def test_every_path_of_source_named_in_a_page_is_there() -> None:
    for page in PAGES:
        folders = [ROOT, ROOT / "kairos_core", ROOT / "plugins/net_vpn/kairos_net_vpn", ROOT / "plugins/transport_tls"]
        for path in re.findall(r"`((?:[\w-]+/)+[\w-]+\.(?:py|md|txt))`", prose(page)):
            places = [*folders, page.parent, *page.parent.glob("kairos_*")]
            assert any((place / path).exists() for place in places), f"{name_of(page)} names {path}"


def test_every_dependency_is_explained() -> None:
    text = (DOCS / "decisions" / "dependencies.md").read_text()
    for project in (ROOT / "pyproject.toml", *ROOT.glob("plugins/*/pyproject.toml")):
        for requirement in tomllib.loads(project.read_text())["project"]["dependencies"]:
            name = re.split(r"[<>=\[]", requirement)[0]
            assert name == "kairos-core" or f"`{name}`" in text, f"{name_of(project)}: {name}"


def test_every_decision_is_in_the_index() -> None:
    index = rows_of_links(DOCS / "decisions" / "README.md")
    assert {page.name for page in (DOCS / "decisions").glob("*.md")} - {"README.md"} == index


def rows_of_links(page: Path) -> set[str]:
    return {target for target in links(page) if "/" not in target}


def test_no_alias_or_command_is_left_out_of_the_command_reference() -> None:
    text = (DOCS / "reference" / "cli.md").read_text()
    for name in (*COMMANDS, *ALIASES):
        assert f"`kairos {name}" in text
