-- What an administrator has to run before this login can make recstream's tables or bring them up to date: a statement
-- a row, none where nothing is missing. Roles that are not there are made by a migration, if the login may make roles.
WITH me AS (
    SELECT oid,
           rolname,
           rolsuper,
           rolsuper OR rolcreaterole AS makes_roles,
           CAST(current_setting('server_version_num') AS integer) < 160000 AS makers_grant_all
    FROM pg_roles
    WHERE rolname = current_user
),
ours AS (
    SELECT wanted.place, wanted.name, role.oid
    FROM unnest(ARRAY['recstream_owner', 'recstream_writer', 'recstream_reader']) WITH ORDINALITY
         AS wanted (name, place)
    LEFT JOIN pg_roles AS role ON role.rolname = wanted.name
),
folder AS (
    SELECT schema.oid,
           schema.nspname,
           pg_has_role(me.oid, schema.nspowner, 'USAGE')
               OR has_schema_privilege(me.oid, schema.oid, 'CREATE WITH GRANT OPTION') AS is_mine
    FROM pg_namespace AS schema, me
    WHERE schema.nspname = current_schema()
),
missing AS (
    SELECT ours.place AS place, format('CREATE ROLE %I', ours.name) AS statement
    FROM ours, me
    WHERE ours.oid IS NULL AND NOT me.makes_roles
    UNION ALL
    SELECT 10, format('GRANT %I TO %I', ours.name, me.rolname)
    FROM ours, me
    WHERE ours.name = 'recstream_owner'
      AND CASE
              WHEN ours.oid IS NULL THEN NOT me.makes_roles
              WHEN pg_has_role(me.oid, ours.oid, 'USAGE')
                  AND pg_has_role(me.oid, ours.oid, CASE WHEN me.makers_grant_all THEN 'MEMBER' ELSE 'SET' END)
                  THEN false
              ELSE NOT (pg_has_role(me.oid, ours.oid, 'MEMBER WITH ADMIN OPTION')
                        OR me.makers_grant_all AND me.makes_roles)
          END
    UNION ALL
    SELECT 20, format('GRANT USAGE, CREATE ON SCHEMA %I TO %I', folder.nspname, ours.name)
    FROM ours, folder
    WHERE ours.name = 'recstream_owner'
      AND NOT folder.is_mine
      AND (ours.oid IS NULL OR NOT has_schema_privilege(ours.oid, folder.oid, 'CREATE'))
    UNION ALL
    SELECT 20 + ours.place, format('GRANT USAGE ON SCHEMA %I TO %I', folder.nspname, ours.name)
    FROM ours, folder
    WHERE ours.name <> 'recstream_owner'
      AND NOT folder.is_mine
      AND NOT has_schema_privilege('public', folder.oid, 'USAGE')
      AND (ours.oid IS NULL OR NOT has_schema_privilege(ours.oid, folder.oid, 'USAGE'))
    UNION ALL
    SELECT 10, format('GRANT %I TO %I', pg_get_userbyid(existing.relowner), me.rolname)
    FROM pg_class AS existing, folder, me
    WHERE existing.relnamespace = folder.oid
      AND existing.relname IN ('alembic_version', 'runs', 'recommendations')
      AND NOT pg_has_role(me.oid, existing.relowner, 'USAGE')
)
SELECT statement FROM missing GROUP BY statement ORDER BY min(place), statement
