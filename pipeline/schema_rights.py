"""May this login make recstream's tables where its connection leads, and if not, what would an administrator run?"""

from dataclasses import dataclass

from sqlalchemy import Connection, text

from pipeline.database import statement
from pipeline.errors import ConfigurationError
from pipeline.roles import Role

_WHERE = text("SELECT current_user, current_schema(), current_setting('search_path')")
_ROLES = text("SELECT rolname FROM pg_roles WHERE rolname = ANY(:names)")


@dataclass(frozen=True, slots=True)
class Standing:
    """As whom and where the tables would be made.

    `roles` are not there yet. `missing` are the statements that an administrator has to run before it can begin.
    """

    login: str
    schema: str
    roles: tuple[str, ...]
    missing: tuple[str, ...]


def standing_of(connection: Connection) -> Standing:
    """Look up as whom and where the connection would make tables.

    Raises:
        ConfigurationError: the schema that its search path leads to is nobody's, or its login's alone.
    """
    login, schema, path = connection.execute(_WHERE).one()
    if schema is None:
        raise ConfigurationError(
            f"no schema of the search path {path!r} is there for the login {login}: make it and grant USAGE on it, or "
            "name another one in DATABASE_URL, as in ?options=-csearch_path%3Dpublic"
        )
    if schema == login and "$user" in path:
        # The service acts as another role, for which "$user" is another schema.
        raise ConfigurationError(
            f"the tables would lie in the schema {schema!r}, to which the search path {path!r} leads this login alone: "
            f"name the schema in DATABASE_URL, as in ?options=-csearch_path%3D{schema}"
        )
    names = [str(role) for role in Role]
    there = set(connection.scalars(_ROLES, {"names": names}))
    return Standing(
        login,
        schema,
        tuple(name for name in names if name not in there),
        tuple(connection.scalars(statement("missing_rights"))),
    )
