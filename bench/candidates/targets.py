"""The figures that matter, and what each must reach."""

from bench.targets import Target

TARGETS = (
    Target("recall100_new_val", "new products among 100, split val of the real shop", 0.300, at_least=True),
    Target("recall100_new_sep", "the same, split sep", 0.280, at_least=True),
    Target("recall100_all_val", "new and repeat together, 100 candidates", 0.40, at_least=True),
    Target("ndcg10_new_val", "retrieval order as a slate", 0.125, at_least=True),
    Target("vs_popularity14_val", "recall100_new_val, of that of 14-day popularity", 1.4, at_least=True),
    Target("vs_implicit_val", "of the best of implicit's BM25, ALS and BPR", 1.1, at_least=True),
    Target("build_s_retail", "seconds, Postgres alone, the real shop", 30),
    Target("build_s_5m", "seconds, 10k products, 100k customers, 5M purchases", 180),
    Target("build_rss_gb_5m", "GB, all processes of the server together, at their peak", 2),
    Target("growth", "build seconds a purchase, 5M of 500k", 1.5),
    Target("lookup_per_core", "customers a CPU second, pages of 500, rules applied", 500, at_least=True),
)
