"""Says which build of the candidates is in service: the ready one that was taken into it last."""

from sqlalchemy import Select, select

from pipeline.tables import candidate_builds as builds


def serving_build() -> Select[tuple[int]]:
    """Its number, as a part of a statement: a row, or none where there has not been one yet."""
    return (
        select(builds.c.build_id)
        .where(builds.c.state == "ready", builds.c.in_service_at.is_not(None))
        .order_by(builds.c.in_service_at.desc(), builds.c.build_id.desc())
        .limit(1)
    )
