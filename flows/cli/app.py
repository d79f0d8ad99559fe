"""The commands, each in a file of its own."""

import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from flows.cli import (
    candidate_commands,
    compare_command,
    customer_commands,
    data_commands,
    demo_command,
    eval_command,
    order_commands,
    plan_command,
    product_commands,
    psql_command,
    publish_commands,
    response_command,
    retention_commands,
    run_commands,
    service_commands,
    tune_command,
)
from flows.cli.exits import WRONG_USE, guarded
from pipeline.version import code_version

_UsageError: type[typer.BadParameter] = typer.BadParameter.__mro__[1]  # the parent has no name in typer itself


class _InPlace(TyperGroup):
    """Lists `candidates` where it belongs: typer itself puts a group last."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        names = list(self.commands)
        names.insert(names.index("run") + 1, names.pop(names.index("candidates")))
        self.commands = {name: self.commands[name] for name in names}


app = typer.Typer(
    name="recstream",
    cls=_InPlace,
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
_candidates = typer.Typer(
    help="Build what candidates are looked up in, and choose which build serves.", no_args_is_help=True
)
_candidates.command("build")(guarded(candidate_commands.build))
_candidates.command("list")(guarded(candidate_commands.list_))
_candidates.command("use")(guarded(candidate_commands.use))
_candidates.command("tune")(guarded(tune_command.tune))
app.add_typer(_candidates, name="candidates")
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
app.command("eval")(guarded(eval_command.evaluate))
app.command("publish")(guarded(publish_commands.publish))
app.command("rollback")(guarded(publish_commands.rollback))
app.command("prune")(guarded(retention_commands.prune))
app.command("erase")(guarded(retention_commands.erase))
app.command("recommend")(guarded(customer_commands.recommend))
app.command("show")(guarded(customer_commands.show))
app.command("respond")(guarded(response_command.respond))
app.command("ban")(guarded(product_commands.ban))
app.command("unban")(guarded(product_commands.unban))
app.command("pin")(guarded(product_commands.pin))
app.command("unpin")(guarded(product_commands.unpin))
app.command("rules")(guarded(product_commands.rules))
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
