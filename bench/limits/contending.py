"""The `openai` client alone against a limited server: `python -m bench.limits.contending QUESTIONS BASE_URL ...`.

As its users write it: so many requests at a time behind a semaphore, its own retries, the answer's text at the end. It
begins when a line comes on standard input.
"""

import argparse
import asyncio
import json
import os
import sys
import time
from pathlib import Path

from openai import AsyncOpenAI, OpenAIError
from openai.types.chat import ChatCompletionMessageParam


class Given(argparse.Namespace):
    """The command line."""

    questions: Path
    base_url: str
    retries: int
    in_flight: int
    most_tokens: int
    asked: int


async def serve(given: Given) -> None:
    """Ask every question; tell how many have no whole answer, and how long all of them took."""
    questions: list[list[ChatCompletionMessageParam]] = json.loads(given.questions.read_text(encoding="utf-8"))
    places = asyncio.Semaphore(given.in_flight)
    async with AsyncOpenAI(api_key="bench", base_url=given.base_url, max_retries=given.retries) as client:

        async def is_served(messages: list[ChatCompletionMessageParam]) -> bool:
            async with places:
                try:
                    return await _recommendations(client, messages, given.most_tokens) >= given.asked
                except (OpenAIError, ValueError):
                    return False

        print(json.dumps({"ready": os.getpid()}), flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        begun = time.monotonic()
        served = await asyncio.gather(*map(is_served, questions))
        print(json.dumps({"lost": served.count(False), "seconds": time.monotonic() - begun}), flush=True)


async def _recommendations(client: AsyncOpenAI, messages: list[ChatCompletionMessageParam], most_tokens: int) -> int:
    """How many recommendations the answer to these messages has."""
    text = ""
    chunks = await client.chat.completions.create(
        model="offline-ranker", messages=messages, max_tokens=most_tokens, stream=True
    )
    async for chunk in chunks:
        for choice in chunk.choices:
            text += choice.delta.content or ""
    return len(json.loads(text)["recommendations"])


def main() -> None:
    """Read the command line and serve."""
    options = argparse.ArgumentParser(prog="bench.limits.contending", description=__doc__)
    options.add_argument("questions", type=Path)
    options.add_argument("base_url")
    for name in ("retries", "in_flight", "most_tokens", "asked"):
        options.add_argument(name, type=int)
    asyncio.run(serve(options.parse_args(namespace=Given())))


if __name__ == "__main__":
    main()
