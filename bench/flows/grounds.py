"""What the sections of the bench share: the database server, Prefect's server, a folder, and how much is measured."""

from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

from bench.flows.plan import Plan
from bench.flows.prefect import Prefect
from pipeline.embedded_postgres import EmbeddedPostgres

Figures = dict[str, float]


@dataclass(frozen=True, slots=True)
class Grounds:
    """Each section has a database and a folder of its own on them."""

    server: EmbeddedPostgres
    prefect: Prefect
    folder: Path
    plan: Plan

    def place(self, name: str) -> Path:
        """A new folder for a section's processes, and what they say."""
        return Path(mkdtemp(prefix=f"{name}-", dir=self.folder))
