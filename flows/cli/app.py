"""The commands, each in a file of its own."""

import sys
from typing import Annotated

import typer

from flows.cli import (
    compare_command,
    customer_commands,
    data_commands,
    demo_command,
    order_commands,
    plan_command,
    psql_command,
    publish_commands,
    retention_commands,
    run_commands,
    service_commands,
)
from flows.cli.exits import WRONG_USE, guarded
from pipeline.version import code_version

_UsageError: type[typer.BadParameter] = typer.BadParameter.__mro__[1]  # the parent has no name in typer itself

app = typer.Typer(
    name="recstream",
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


app.command("demo")(guarded(demo_command.demo))
app.command("init")(guarded(data_commands.init))
app.command("load")(guarded(data_commands.load))
app.command("plan")(guarded(plan_command.plan))
app.command("run")(guarded(run_commands.run))
app.command("resume")(guarded(run_commands.resume))
app.command("retry-failed")(guarded(run_commands.retry_failed))
app.command("pause")(guarded(order_commands.pause))
app.command("continue")(guarded(order_commands.continue_))
app.command("drain")(guarded(order_commands.drain))
app.command("cancel")(guarded(order_commands.cancel))
app.command("limit")(guarded(order_commands.limit))
app.command("status")(guarded(run_commands.status))
app.command("runs")(guarded(run_commands.runs))
app.command("compare")(guarded(compare_command.compare))
app.command("publish")(guarded(publish_commands.publish))
app.command("rollback")(guarded(publish_commands.rollback))
app.command("prune")(guarded(retention_commands.prune))
app.command("erase")(guarded(retention_commands.erase))
app.command("recommend")(guarded(customer_commands.recommend))
app.command("show")(guarded(customer_commands.show))
app.command("serve")(guarded(service_commands.serve))
# These two hand what follows to another program, its `--help` included.
_HANDED_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
app.command("psql", context_settings=_HANDED_ON)(guarded(psql_command.psql))
app.command("offline-ranker", context_settings=_HANDED_ON)(guarded(service_commands.offline_ranker))


def run_command() -> int:
    """Run what was typed and return its exit status; wrong use is one line on stderr, as every other error is."""
    try:
        status: int | None = app(prog_name="recstream", standalone_mode=False)
    except _UsageError as error:
        return _explain(error)
    return status or 0


def _explain(error: typer.BadParameter) -> int:
    message = error.format_message()
    if error.ctx is None or "\n" in message:  # `recstream` alone: its message is the help
        error.show()
        return WRONG_USE
    command, said = error.ctx.command_path, message.replace("Value error, ", "").rstrip(".")
    print(f"{command}: {said}: see `{command} --help`", file=sys.stderr)
    return WRONG_USE
