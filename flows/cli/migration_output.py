"""How a migration looks: what it is going to do, what it did, and who has yet to be granted what."""

from typing import Any

from flows.cli.output import console, notes
from pipeline.roles import Role
from pipeline.schema import MigrationPlan


def plan_document(plan: MigrationPlan, address: str, *, done: bool) -> dict[str, Any]:
    """The plan for programs; `version` is the one that the database has now."""
    return {
        "database": address,
        "schema": plan.standing.schema,
        "login": plan.standing.login,
        "version_before": plan.before,
        "version": plan.after if done else plan.before,
        "version_needed": plan.after,
        "steps": plan.steps,
        "roles": plan.new_roles,
        "to_be_run_by_an_administrator": plan.missing_rights,
    }


def tell_plan(plan: MigrationPlan, address: str) -> None:
    """What is about to happen, a line for each migration."""
    if not plan.steps:
        return
    before = "without recstream's tables" if plan.before is None else f"at schema version {plan.before}"
    where = f"schema {plan.standing.schema}, login {plan.standing.login}"
    _say(f"{address} is {before}; to bring it to {plan.after} ({where}):")
    for step in plan.steps:
        _say(f"  {step.version}  {step.purpose}")
    if plan.new_roles:
        _say(f"  makes the roles {', '.join(plan.new_roles)}")
    if plan.missing_rights:
        notes().print("An administrator has to run this first:", markup=False)
        for statement in plan.missing_rights:
            notes().print(f"  {statement};", markup=False)


def tell_done(plan: MigrationPlan, address: str, *, grants: bool) -> None:
    """The version that the database has now; with `grants`, what its logins need as well."""
    done = "now at" if plan.steps else "already at"
    _say(f"{address} is {done} schema version {plan.after}.")
    if grants and plan.steps:
        _say(f"For the login of the service:      GRANT {Role.WRITER} TO its_login;")
        _say(f"For logins that only read:         GRANT {Role.READER} TO their_login;")
        _say(f"For the login that prunes, erases and updates the tables: GRANT {Role.OWNER} TO its_login;")


def _say(line: str) -> None:
    console().print(line, markup=False)
