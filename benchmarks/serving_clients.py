"""Clients for `benchmarks/serving.py`, in a process of their own: as many answers as there are, or at a given rate.

    python benchmarks/serving_clients.py URL CONTENT_TYPE BODIES.npz CONNECTIONS SECONDS [RATE]

Prints one JSON object: answers a second and latency percentiles in milliseconds. At a rate, a request that has to wait for a
connection counts from the moment at which it was due.
"""

import asyncio
import json
import sys
import time
from urllib.parse import urlsplit

import numpy as np
import uvloop


async def main(url: str, content_type: str, bodies: str, connections: str, seconds: str, rate: str = "0") -> None:
    """Run the clients and print what they measured."""
    address = urlsplit(url)
    head = f"POST {address.path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {content_type}\r\nContent-Length: "
    with np.load(bodies) as stored:
        requests = [b"%s%d\r\n\r\n%s" % (head.encode(), len(body), body) for body in (stored[n].tobytes() for n in stored)]
    start = time.perf_counter()
    due = arrivals(start, float(seconds), float(rate))
    latencies: list[float] = []
    opened = [asyncio.open_connection(address.hostname, address.port) for _ in range(int(connections))]
    await asyncio.gather(*[send(await one, requests, due, latencies) for one in opened])
    elapsed = time.perf_counter() - start
    p50, p99 = np.percentile(latencies, [50, 99]) * 1000
    print(json.dumps({"rate": len(latencies) / elapsed, "p50": p50, "p99": p99, "n": len(latencies)}))


def arrivals(start: float, seconds: float, rate: float):
    """When each request is due; without a rate, at once."""
    number = 0
    while (now := start + number / rate if rate else time.perf_counter()) < start + seconds:
        yield number, now
        number += 1


async def send(connection, requests, due, latencies) -> None:
    """One connection: take the next request that is due, wait for its moment, wait for its answer."""
    reader, writer = connection
    for number, moment in due:
        await asyncio.sleep(max(0.0, moment - time.perf_counter()))
        writer.write(requests[number % len(requests)])
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        body = await reader.readexactly(int(head.split(b"content-length: ")[1].split(b"\r\n")[0]))
        assert head.startswith(b"http/1.1 200"), head + body
        latencies.append(time.perf_counter() - moment)
    writer.close()


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
