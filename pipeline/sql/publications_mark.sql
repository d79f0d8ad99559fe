-- A text that is another one as soon as anything was published, rolled back or published again.
SELECT md5(coalesce(string_agg(concat_ws(' ', run_id, precedence, withdrawn_at), ',' ORDER BY run_id), ''))
    || (SELECT concat_ws(' ', '', count(*), max(one.published_at))
        FROM published AS one JOIN runs AS run USING (run_id)
        WHERE run.day = CAST(:day AS date))
FROM published_runs
