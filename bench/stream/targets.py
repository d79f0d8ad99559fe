"""The figures that matter, and what each must reach."""

from bench.targets import Target

TARGETS = (
    Target("cpu_vs_instructor_50", "client CPU per answer of 50 items, of instructor's", 0.067),
    Target("cpu_vs_floor_50", "the same, of a bare aiohttp client's that only reads the bytes", 3.0),
    Target("growth_200_vs_10", "CPU per item at 200 items, of that at 10, what one item costs taken out", 1.1),
    Target("streams_per_core", "streams at 50 tokens/s with a median lateness of 5 ms or less", 600, at_least=True),
    Target("lateness_ms_p50", "from the send of an item's last byte to the yield", 1.0),
    Target("lateness_chunks_max", "events that had to follow an item before it was yielded", 0),
    Target("first_of_whole_10", "time to the first recommendation, of the whole answer's", 0.15),
    Target("long_item_growth", "CPU per byte, items of 4,800 characters, of that with items of 100", 1.2),
    Target("rss_mb_1000_streams", "resident memory with 1,000 streams flowing", 250),
)
