-- The partitions of days that have changed much since the planner was told last what is in them, or was never told.
-- Postgres' own daemon comes to them a minute later at the earliest, and not at all where a shop has turned it off.
SELECT relation.relname
FROM pg_stat_all_tables AS counted
JOIN pg_class AS relation ON relation.oid = counted.relid
WHERE relation.relname ~ '^(slates|recommendations|rejections|llm_calls)_[0-9]{8}$'
  AND relation.relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = to_regclass('slates'))
  AND counted.n_mod_since_analyze > 50 + 0.05 * counted.n_live_tup
ORDER BY relation.relname
