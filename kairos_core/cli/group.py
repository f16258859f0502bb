"""The click group: it imports a command when it is called, and says what went wrong in one line."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator
from difflib import get_close_matches
from importlib import import_module
from typing import Any

import click
from click.shell_completion import CompletionItem

from kairos_core.cli.outside import outside_command, outside_names
from kairos_core.cli.table import ALIASES, COMMANDS
from kairos_core.errors import KairosError


class LazyGroup(click.Group):
    """Finds built-in commands in a table and further ones in plugins, and imports only what is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*COMMANDS, *outside_names()]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        builtin = COMMANDS.get(ALIASES.get(cmd_name, cmd_name))
        if builtin is None:
            offer = outside_command(cmd_name)
            return offer.create() if offer else None
        module, _, attribute = builtin.target.partition(":")
        command = getattr(import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            near = get_close_matches(args[0], self.list_commands(ctx), n=1)
            if not near:
                raise
            raise click.UsageError(f"{error.message} Did you mean {near[0]!r}?", ctx) from None

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KairosError as error:
            if ctx.params.get("verbose"):
                traceback.print_exc()
            raise click.ClickException(str(error)) from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, builtin.help) for name, builtin in COMMANDS.items()])
        rows = list(self._outside_rows())
        if rows:
            with formatter.section("Commands of plugins"):
                formatter.write_dl(rows)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        rows = [*((name, builtin.help) for name, builtin in COMMANDS.items()), *self._outside_rows()]
        items = [CompletionItem(name, help=text) for name, text in rows if name.startswith(incomplete)]
        return items + click.Command.shell_complete(self, ctx, incomplete)

    def _outside_rows(self) -> Iterator[tuple[str, str]]:
        for name, help_text in outside_names().items():
            offer = None if help_text is not None else outside_command(name)
            try:
                yield name, help_text or (offer.create().get_short_help_str(70) if offer else "")
            except KairosError as error:
                print(f"Warning: {error}", file=sys.stderr)
