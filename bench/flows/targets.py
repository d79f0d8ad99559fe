"""The figures that matter, and what each must reach."""

from bench.targets import Target

TARGETS = (
    Target("orchestration_share", "seconds that Prefect adds, of all: 2,000 customers in 2 shards, in process", 0.05),
    Target("orchestration_share_20k", "the same of 20,000 customers in 20 shards, extrapolated", 0.01),
    Target("rss_growth", "a process's own memory at 100,000 customers, of that at 10,000", 1.1),
    Target(
        "two_workers_speedup", "provider-bound night in the pool, one worker's seconds of two's", 1.8, at_least=True
    ),
    Target("recovery_s", "kill -9 of a worker with its shard until others have served it, worst", 120),
    Target("lost", "customers without a complete slate after all kills", 0),
    Target("doubled", "rows or ranks that are there twice, or from attempts that were over", 0),
    Target("cancel_s", "cancel until the last stream is closed, from the command line or in Prefect", 5),
    Target("first_row_recommend_beyond_model_s", "recstream recommend to its first row, less the model's part", 1.0),
    Target("largest_stage_share", "the largest stage's part of a process's CPU, ranker without delay", 0.334),
)
