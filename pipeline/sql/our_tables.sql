-- Every table of recstream, each partition by itself, those on their way out included; and what the shop has put in place
-- of the three input tables. `columns` are those whose text can name somebody.
SELECT relation.relname AS name,
       relation.relkind = 'r' AS is_table,
       CAST(array_agg(attribute.attname ORDER BY attribute.attnum) AS text[]) AS columns
FROM pg_class AS relation
JOIN pg_attribute AS attribute ON attribute.attrelid = relation.oid
    AND attribute.attnum > 0
    AND NOT attribute.attisdropped
WHERE relation.relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = to_regclass('runs'))
  AND relation.relkind IN ('r', 'v', 'm', 'f')
  AND (relation.relname IN ('customers', 'products', 'events', 'runs', 'published', 'published_runs', 'rejects_files',
                            'endpoint_limits', 'limit_leases', 'spending', 'spenders', 'run_orders', 'run_processes',
                            'run_shards', 'candidate_builds', 'product_rules', 'alembic_version')
       OR relation.relname ~ '^(slates|recommendations|rejections|llm_calls)_(kept|[0-9]{8})$'
       OR relation.relname ~ '^candidate_(products|neighbours|newcomers|histories)_[0-9]+$')
GROUP BY relation.oid
ORDER BY relation.relname
