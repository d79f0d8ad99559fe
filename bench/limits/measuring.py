"""Measures one client under one limit, ours or the bare one; those that are measured together begin together."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.limits.outcomes import Outcome, outcome
from bench.limits.plan import SLATE_SIZE, Plan
from bench.limits.running import Ours, crew, limited_server, serve
from bench.limits.scenarios import Scenario
from bench.limits.server_log import read_server_log
from bench.limits.workers import started
from pipeline.errors import UnfinishedRunError
from pipeline.prompts import Prompt


@dataclass(frozen=True, slots=True)
class Together:
    """Those that are measured at the same time, each with a server of its own: none begins before all are ready."""

    url: str
    plan: Plan
    ready: asyncio.Barrier

    async def ours(self, who: str, scenario: Scenario, ours: Ours) -> Outcome:
        """A run of ours.

        Raises:
            UnfinishedRunError: a shard broke off, or a process ended that was to live.
        """
        with TemporaryDirectory(prefix="limits-") as name:
            async with (
                limited_server(Path(name), scenario.limits, self.plan.tokens_per_second) as server,
                crew(self.url, server, ours, self.plan.customers) as (processes, last),
            ):
                await self.ready.wait()
                served = await serve(self.url, server, ours, processes, last)
            if served.failed:
                raise UnfinishedRunError(f"{scenario.name}: {served.failed[0]}")
            return outcome(who, scenario, read_server_log(server.log), lost=served.lost, seconds=served.seconds)

    async def contender(
        self, scenario: Scenario, prompts: Sequence[Prompt], *, retries: int, most_tokens: int
    ) -> Outcome:
        """The `openai` client with so many retries of its own."""
        with TemporaryDirectory(prefix="limits-") as name:
            questions = Path(name) / "questions.json"
            questions.write_text(json.dumps([_messages(prompt) for prompt in prompts]), encoding="utf-8")
            async with limited_server(Path(name), scenario.limits, self.plan.tokens_per_second) as server:
                numbers = (retries, self.plan.in_flight, most_tokens, SLATE_SIZE)
                arguments = (str(questions), server.base_url, *map(str, numbers))
                async with started("bench.limits.contending", arguments, server.folder, {}) as client:
                    await client.told()
                    await self.ready.wait()
                    client.say("go")
                    told = await client.told()
            log = read_server_log(server.log)
            return outcome(f"openai, {retries}", scenario, log, lost=told["lost"], seconds=told["seconds"])


def _messages(prompt: Prompt) -> list[dict[str, str]]:
    return [{"role": "system", "content": prompt.system}, {"role": "user", "content": prompt.customer}]
