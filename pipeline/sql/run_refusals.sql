-- Why objects of a run's answers were refused, and how often: the most frequent reason first.
SELECT reason, count(*) AS objects
FROM rejections
WHERE run_id = :run_id AND day = :day
GROUP BY reason
ORDER BY objects DESC, reason
LIMIT :most
