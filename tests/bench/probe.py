"""Ask /livez repeatedly until standard input ends; then print the seconds that each answer took, as JSON.

A line before that says that the first answer has come.

A process of its own: what the measurement sends at the same time must not delay it. Each request has a
connection of its own, as the requests of a load balancer and of a container engine have.
"""

from __future__ import annotations

import http.client
import json
import select
import sys
import time

GIVE_UP_SECONDS = 2.0
INTERVAL_SECONDS = 0.02


def latency(host: str, port: int) -> float:
    """Seconds until /livez answered 200; GIVE_UP_SECONDS when it did not answer in that time."""
    connection = http.client.HTTPConnection(host, port, timeout=GIVE_UP_SECONDS)
    begun = time.perf_counter()
    try:
        connection.request("GET", "/livez")
        answer = connection.getresponse()
        answer.read()
    except TimeoutError:
        return GIVE_UP_SECONDS
    finally:
        connection.close()
    if answer.status != 200:
        sys.exit(f"/livez answered {answer.status}")
    return time.perf_counter() - begun


def main() -> None:
    host, port = sys.argv[1], int(sys.argv[2])
    latencies = [latency(host, port)]
    print("asking", flush=True)
    while not select.select([sys.stdin], [], [], INTERVAL_SECONDS)[0]:
        latencies.append(latency(host, port))
    json.dump(latencies, sys.stdout)


if __name__ == "__main__":
    main()
