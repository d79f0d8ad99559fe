"""Commands that are imported when they are typed: nobody waits for the modules of the others."""

from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command, get_group

from flows.cli.exits import guarded

Command = TyperCommand | TyperGroup

_PLAIN: dict[str, Any] = {"add_completion": False, "pretty_exceptions_enable": False, "rich_markup_mode": None}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a command's function is, `MODULE.FUNCTION` below flows.cli, and what typer is to know of the command."""

    path: str
    context_settings: dict[str, Any] = field(default_factory=dict)

    def made(self, name: str) -> TyperCommand:
        """The command, imported now. Ctrl-C may come meanwhile: typer makes an exit status of it."""
        module, _, function = self.path.partition(".")
        found = getattr(import_module(f"flows.cli.{module}"), function)
        alone = typer.Typer(**_PLAIN)
        alone.command(name, context_settings=self.context_settings)(guarded(found))
        command = get_command(alone)
        assert isinstance(command, TyperCommand)  # noqa: S101 - of one function it makes no group
        return command


@dataclass(frozen=True, slots=True)
class Group:
    """Commands below a word of their own."""

    summary: str
    places: Mapping[str, Place]

    def made(self, name: str) -> TyperGroup:
        """The group, with none of its commands imported."""
        app = typer.Typer(name=name, help=self.summary, cls=lazy_group(self.places), no_args_is_help=True, **_PLAIN)
        return get_group(app)


class _Commands(MutableMapping[str, Command]):
    """Commands by name, each made when it is asked for. The names alone import nothing."""

    def __init__(self, places: Mapping[str, Place | Group]) -> None:
        self._found: dict[str, Place | Group | Command] = {**places}

    def __getitem__(self, name: str) -> Command:
        found = self._found[name]
        if isinstance(found, (Place, Group)):
            found = self._found[name] = found.made(name)
        return found

    def __setitem__(self, name: str, command: Command) -> None:
        self._found[name] = command

    def __delitem__(self, name: str) -> None:
        del self._found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)


def lazy_group(places: Mapping[str, Place | Group]) -> type[TyperGroup]:
    """The class of a group of these commands, listed in this order: typer makes the group of it."""

    class LazyGroup(TyperGroup):
        def __init__(self, **attributes: Any) -> None:
            super().__init__(**attributes)
            self.commands = _Commands(places)  # type: ignore[assignment] # what typer calls both has no public name

    return LazyGroup
