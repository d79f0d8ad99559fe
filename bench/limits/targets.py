"""The figures that matter, and what each must reach."""

from bench.targets import Target

TARGETS = (
    Target("lost", "customers without a complete slate, worst of the scenarios", 0),
    Target("time_vs_ideal", "duration, of what the limits in force allow: worst of the scenarios", 1.15),
    Target("refused_share", "429s, of all requests: worst of the scenarios", 0.10),
    Target("lost_4_processes", "the same three, one process of four killed midway", 0),
    Target("time_vs_ideal_4_processes", "", 1.2),
    Target("refused_share_4_processes", "", 0.10),
    Target("budget_overrun", "cap passed by, in share of the cap, 64 in flight in 4 processes", 0),
    Target("plan_error", "planned cost, of what the run reports, on real customers, after one night", 0.15),
    Target("output_tokens_vs_full", "output tokens per recommendation, of the full JSON object's", 0.35),
    Target("overhead_us_per_request", "CPU of limiter, retries and budget", 300),
)
