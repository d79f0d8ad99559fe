-- Every table that holds one day of slates, recommendations, rejections or attempts: in its place, on its way out of it
-- (a detach that was begun and not finished), or out of it and not dropped yet. Rows are the server's own estimate.
SELECT parent.name AS parent,
       relation.relname AS partition,
       to_date(substring(relation.relname FROM '[0-9]{8}$'), 'YYYYMMDD') AS day,
       CASE
           WHEN inheritance.inhrelid IS NULL THEN 'detached'
           WHEN inheritance.inhdetachpending THEN 'pending'
           ELSE 'attached'
       END AS place,
       CAST(greatest(relation.reltuples, pg_stat_get_live_tuples(relation.oid), 0) AS bigint) AS rows,
       pg_total_relation_size(relation.oid) AS bytes
FROM unnest(ARRAY['slates', 'recommendations', 'rejections', 'llm_calls']) WITH ORDINALITY AS parent (name, place)
JOIN pg_class AS relation ON relation.relname ~ ('^' || parent.name || '_[0-9]{8}$')
    AND relation.relkind = 'r'
    AND relation.relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = to_regclass(parent.name))
LEFT JOIN pg_inherits AS inheritance ON inheritance.inhrelid = relation.oid
ORDER BY day, parent.place
