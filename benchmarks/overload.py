"""A server under four times the load that it can answer: answers a second, their p99, and whether the probes stay green.

A server of a toy model in a process of its own, clients in another, on the same machine: first as many answers as there are
over 64 connections (the peak), then requests at four times that rate over 800 connections from four addresses of this machine.
A request for which no connection is free is not sent, and counted. Prints Markdown.

    python benchmarks/overload.py [--seconds 8] [--rounds 3]
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import uvloop

sys.path[:0] = [str(Path(__file__).parent.parent / "tests" / "serving"), str(Path(__file__).parent.parent / "tests")]

PEAK_CONNECTIONS, CONNECTIONS, TIMES = 64, 800, 4
ADDRESSES = ("127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4")
PROBE_SECONDS = 0.05


@dataclass
class Seen:
    """What clients saw in one phase."""

    answered: list[float] = field(default_factory=list)
    """seconds of each answer with status 200"""
    refused: int = 0
    unsent: int = 0
    offered: int = 0
    probes: list[tuple[int, float]] = field(default_factory=list)


async def connect(port: int, number: int):
    return await asyncio.open_connection("127.0.0.1", port, local_addr=(ADDRESSES[number % len(ADDRESSES)], 0))


async def ask(connection, request: bytes) -> tuple[int, bool]:
    """Status of one request, and whether the connection stays open."""
    reader, writer = connection
    writer.write(request)
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    await reader.readexactly(int(head.split(b"content-length: ")[1].split(b"\r\n")[0]))
    return int(head.split()[1]), b"connection: close" not in head


async def probe(port: int, seen: Seen, ended: asyncio.Event) -> None:
    while not ended.is_set():
        begun = time.perf_counter()
        connection = await connect(port, 0)
        status, _ = await ask(connection, b"GET /health/ready HTTP/1.1\r\nHost: localhost\r\n\r\n")
        connection[1].close()
        seen.probes.append((status, time.perf_counter() - begun))
        await asyncio.sleep(PROBE_SECONDS)


async def peak(port: int, requests: list[bytes], seconds: float) -> Seen:
    """As many answers as there are."""
    seen, ends = Seen(), time.perf_counter() + seconds

    async def client(number: int) -> None:
        connection, at = await connect(port, number), number
        while (begun := time.perf_counter()) < ends:
            status, _ = await ask(connection, requests[at % len(requests)])
            assert status == 200
            seen.answered.append(time.perf_counter() - begun)
            at += PEAK_CONNECTIONS
        connection[1].close()

    await asyncio.gather(*(client(number) for number in range(PEAK_CONNECTIONS)))
    return seen


async def overload(port: int, requests: list[bytes], seconds: float, rate: float) -> Seen:
    """Requests at a rate, whatever becomes of them."""
    seen, ended = Seen(), asyncio.Event()
    free = [await connect(port, number) for number in range(CONNECTIONS)]
    running: set[asyncio.Task] = set()

    async def one(connection, request: bytes, number: int) -> None:
        begun = time.perf_counter()
        try:
            status, stays = await ask(connection, request)
        except (asyncio.IncompleteReadError, ConnectionError):
            status, stays = 0, False
        if status == 200:
            seen.answered.append(time.perf_counter() - begun)
        else:
            seen.refused += 1
        free.append(connection if stays else await connect(port, number))

    probing = asyncio.create_task(probe(port, seen, ended))
    start = time.perf_counter()
    while (now := time.perf_counter() - start) < seconds:
        while seen.offered < now * rate:
            seen.offered += 1
            if not free:
                seen.unsent += 1
                continue
            task = asyncio.create_task(one(free.pop(0), requests[seen.offered % len(requests)], seen.offered))
            running.add(task)
            task.add_done_callback(running.discard)
        await asyncio.sleep(0.001)
    ended.set()
    await asyncio.gather(probing, *running)
    for _, writer in free:
        writer.close()
    return seen


def main(rounds: int, seconds: float) -> None:
    """Measure, and print a table."""
    from servers import png, start
    from versions import World, images

    bodies = [png(image) for image in images(256)]
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
    requests = [head % len(body) + body for body in bodies]
    titles = ("round", "peak/s", "offered/s", "answers/s", "share", "p99", "refused", "not sent", "probes green", "slowest")
    print("| " + " | ".join(titles) + " |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    shares = []
    with tempfile.TemporaryDirectory() as home:
        world = World(Path(home))
        world.promote(1)
        server = start(world)
        port = int(server.url.rpartition(":")[2])
        try:
            for number in range(rounds + 1):
                best = len(uvloop.run(peak(port, requests, seconds)).answered) / seconds
                seen = uvloop.run(overload(port, requests, seconds, TIMES * best))
                rate, p99 = len(seen.answered) / seconds, float(np.percentile(seen.answered, 99))
                green = sum(status == 200 for status, _ in seen.probes)
                slowest = max(elapsed for _, elapsed in seen.probes)
                if number:  # the first round warms up
                    shares.append(rate / best)
                    row = (number, f"{best:.0f}", f"{seen.offered / seconds:.0f}", f"{rate:.0f}", f"{rate / best:.2f}")
                    more = (f"{p99:.2f} s", seen.refused, seen.unsent, f"{green} of {len(seen.probes)}", f"{slowest:.2f} s")
                    print("| " + " | ".join(map(str, (*row, *more))) + " |", flush=True)
        finally:
            server.process.terminate()
            server.process.join()
    print(f"\nMedian share of the peak: {statistics.median(shares):.2f}.")


if __name__ == "__main__":
    given = argparse.ArgumentParser(description=__doc__)
    given.add_argument("--rounds", type=int, default=3)
    given.add_argument("--seconds", type=float, default=8.0)
    options = given.parse_args()
    main(options.rounds, options.seconds)
