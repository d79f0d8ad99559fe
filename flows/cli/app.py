"""The commands, by name. Each is in a file that is imported when it is typed."""

import sys
from typing import Annotated

import typer
from typer.core import TyperGroup
from typer.main import get_command

from flows.cli.exits import WRONG_USE
from flows.cli.lazy_commands import Group, Place, lazy_group
from pipeline.version import code_version

_UsageError: type[typer.BadParameter] = typer.BadParameter.__mro__[1]  # the parent has no name in typer itself


# What follows these two is for another program, its `--help` included.
_HANDED_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
_CANDIDATES = Group(
    "Build what candidates are looked up in, and choose which build serves.",
    {
        "build": Place("candidate_commands.build"),
        "list": Place("candidate_commands.list_"),
        "use": Place("candidate_commands.use"),
        "tune": Place("tune_command.tune"),
    },
)
_COMMANDS: dict[str, Place | Group] = {
    "demo": Place("demo_command.demo"),
    "init": Place("data_commands.init"),
    "load": Place("data_commands.load"),
    "plan": Place("plan_command.plan"),
    "run": Place("run_commands.run"),
    "candidates": _CANDIDATES,
    "resume": Place("run_commands.resume"),
    "retry-failed": Place("run_commands.retry_failed"),
    "pause": Place("order_commands.pause"),
    "continue": Place("order_commands.continue_"),
    "drain": Place("order_commands.drain"),
    "cancel": Place("order_commands.cancel"),
    "limit": Place("order_commands.limit"),
    "status": Place("run_commands.status"),
    "runs": Place("run_commands.runs"),
    "compare": Place("compare_command.compare"),
    "eval": Place("eval_command.evaluate"),
    "publish": Place("publish_commands.publish"),
    "rollback": Place("publish_commands.rollback"),
    "prune": Place("retention_commands.prune"),
    "erase": Place("retention_commands.erase"),
    "housekeeping": Place("housekeeping_command.housekeeping"),
    "recommend": Place("customer_commands.recommend"),
    "show": Place("customer_commands.show"),
    "respond": Place("response_command.respond"),
    "ban": Place("product_commands.ban"),
    "unban": Place("product_commands.unban"),
    "pin": Place("product_commands.pin"),
    "unpin": Place("product_commands.unpin"),
    "rules": Place("product_commands.rules"),
    "deploy": Place("deploy_command.deploy"),
    "serve": Place("service_commands.serve"),
    "psql": Place("psql_command.psql", _HANDED_ON),
    "offline-ranker": Place("service_commands.offline_ranker", _HANDED_ON),
}

app = typer.Typer(
    name="recstream",
    cls=lazy_group(_COMMANDS),
    help="A ranked product slate for every customer, streamed out of a language model and committed row by row.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"recstream {code_version()}")
        raise typer.Exit


@app.callback()
def _recstream(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    pass


def run_command() -> int:
    """Run what was typed and return its exit status; wrong use is one line on stderr, as every other error is."""
    try:
        status: int | None = app(prog_name="recstream", standalone_mode=False)
    except _UsageError as error:
        return _explain(error)
    return status or 0


def _explain(error: typer.BadParameter) -> int:
    message = error.format_message()
    if "\n" in message:  # `recstream` alone: its message is the help
        error.show()
        return WRONG_USE
    command = _typed() if error.ctx is None else error.ctx.command_path
    said = message.replace("Value error, ", "").rstrip(".")
    print(f"{command}: {said}: see `{command} --help`", file=sys.stderr)
    return WRONG_USE


def _typed() -> str:
    """The command that was typed: typer does not say where a flag lacks its values."""
    command, path = get_command(app), ["recstream"]
    for word in sys.argv[1:]:
        if not isinstance(command, TyperGroup) or word not in command.commands:
            break
        command = command.commands[word]
        path.append(word)
    return " ".join(path)
