"""`python -m bench.chaos.checker SENT ACKNOWLEDGED TORN DATABASE`: judges a database and its logs.

It imports nothing of what it judges. Exit status 1 on any finding.
"""

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.chaos.evidence import gather
from bench.chaos.findings import Finding
from bench.chaos.judging import Verdict, judge

SHOWN = 10


def table(verdict: Verdict) -> Iterator[str]:
    """What was counted and what was found, for people; at most ten findings in full."""
    became = f"{verdict.rows:,} rows + {verdict.rejections:,} rejections + {verdict.unsent:,} that nobody read"
    yield f"{verdict.sent:,} objects sent = {became}; {verdict.acknowledged:,} rows acknowledged"
    yield ", ".join(f"{kind} {count}" for kind, count in verdict.counts.items())
    yield from (f"  {finding.kind}: {finding.words}" for finding in chosen(verdict.findings))


def chosen(findings: Sequence[Finding]) -> list[Finding]:
    """The first ten: of each kind the first, then of each the second, and so on."""
    seen = Counter[str]()
    places = []
    for finding in findings:
        places.append((seen[finding.kind], finding))
        seen[finding.kind] += 1
    return [finding for _, finding in sorted(places, key=lambda place: place[0])[:SHOWN]]


def main() -> int:
    """Judge what the command line names."""
    sent, acknowledged, torn, conninfo = sys.argv[1:]
    verdict = judge(gather(Path(sent), Path(acknowledged), Path(torn), conninfo))
    print("\n".join(table(verdict)))
    return 1 if verdict.findings else 0


if __name__ == "__main__":
    sys.exit(main())
