-- Builds that nobody needs any more: not the two that were in service last, none that a run has begun with which goes on
-- or, being one of the last three nights that were planned, can be resumed; and what was made on trial, and left behind
-- more than a day ago.
SELECT build.build_id
FROM candidate_builds AS build
WHERE build.state = 'ready'
  AND CASE WHEN build.trial THEN build.started_at < now() - interval '1 day'
           ELSE build.build_id NOT IN (
               SELECT build_id
               FROM candidate_builds
               WHERE state = 'ready' AND in_service_at IS NOT NULL
               ORDER BY in_service_at DESC, build_id DESC
               LIMIT 2
           )
      END
  AND NOT EXISTS (
      SELECT
      FROM runs AS run
      WHERE run.candidate_build = build.build_id
        AND run.state IN ('planned', 'running', 'draining')
  )
  AND build.build_id NOT IN (
      SELECT night.candidate_build
      FROM (
          SELECT candidate_build, state, pruned_at
          FROM runs
          WHERE kind = 'nightly'
          ORDER BY created_at DESC
          LIMIT 3
      ) AS night
      WHERE night.candidate_build IS NOT NULL
        AND night.state <> 'finished'
        AND night.pruned_at IS NULL
  )
ORDER BY build.build_id
