"""A plain loop of obstore's get_range over one object: what reading S3 costs at the least; a child of ranges.py.

python benchmarks/obstore_load.py ENDPOINT BUCKET KEY LENGTH SIZE CONNECTIONS SECONDS   # prints: answers bytes seconds cpu
"""

from __future__ import annotations

import asyncio
import sys
import time
from random import Random

import obstore
import uvloop
from obstore.store import S3Store


async def load(store: S3Store, key: str, numbers: list[int], seconds: float) -> int:
    """How many ranges were read."""
    length, size, connections = numbers
    random, ends, answers = Random(7), time.perf_counter() + seconds, 0

    async def reading() -> None:
        nonlocal answers
        while time.perf_counter() < ends:
            got = await obstore.get_range_async(
                store, key, start=random.randrange(length - size), length=size
            )
            assert len(got) == size
            answers += 1

    await asyncio.gather(*(reading() for _ in range(connections)))
    return answers


def main() -> None:
    endpoint, bucket, key, *words = sys.argv[1:]
    store = S3Store(bucket, config={"endpoint": endpoint}, client_options={"allow_http": True})
    numbers, seconds = [int(word) for word in words[:3]], float(words[3])
    began, spent = time.perf_counter(), time.process_time()
    answers = uvloop.run(load(store, key, numbers, seconds))
    print(answers, answers * numbers[1], time.perf_counter() - began, time.process_time() - spent)


if __name__ == "__main__":
    main()
