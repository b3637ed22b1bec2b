"""Look at the service from where it runs: `ops/on` feeds this file to the Python beside it, over standard input.

    redis ping | redis write | redis memory      what the service itself gets from Redis
    metrics PREFIX                               lines of /metrics that begin so, without buckets
    http PATH                                    status code and first line of the answer

Prints what it found and exits 0 also when that is an outage: a runbook judges the words, not the exit code.
"""

from __future__ import annotations

import os
import re
import sys
import urllib.error
import urllib.request

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from service.core.settings import Settings, get_settings

SECONDS = 5


def look_at_redis(settings: Settings, what: str) -> str:
    client = Redis.from_url(
        settings.redis_url.get_secret_value(),
        socket_timeout=SECONDS,
        socket_connect_timeout=SECONDS,
        retry=Retry(NoBackoff(), 0),
        decode_responses=True,
    )
    key = f"{settings.redis_namespace}:ops:probe"
    try:
        if what == "ping":
            return "PONG" if client.ping() else "no answer"
        if what == "write":
            client.set(key, "1", ex=60)
            return "written" if client.get(key) == "1" else "written, but not read back"
        if what == "memory":
            memory = client.info("memory")
            used, limit = int(memory["used_memory"]), int(memory["maxmemory"])
            return f"used {used >> 20} MiB, " + (
                f"{100 * used // limit} % of {limit >> 20} MiB" if limit else "no limit"
            )
    except (RedisError, OSError) as error:
        return f"redis lost: {type(error).__name__}: {error}"
    raise SystemExit(f"redis: unknown question {what!r}; ask ping, write or memory")


def fetch(settings: Settings, path: str, token: str = "") -> tuple[int, str]:
    """Status and body; status 0 when nothing answers."""
    address = os.environ.get("OPS_ADDRESS", "http://127.0.0.1:8000")
    headers = {"Host": settings.allowed_hosts[0], "Accept": "application/json, text/plain"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    try:
        request = urllib.request.Request(address + path, headers=headers)  # noqa: S310 - our own address
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:  # noqa: S310
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(errors="replace")
    except OSError as error:
        return 0, f"no answer: {error}"


def main(question: str, *words: str) -> None:
    settings = get_settings()
    if question == "redis":
        print(look_at_redis(settings, words[0]))
    elif question == "http":
        status, body = fetch(settings, words[0])
        print(status, body.split("\n", 1)[0][:500])
    elif question == "metrics":
        status, body = fetch(settings, "/metrics", settings.metrics_token.get_secret_value())
        noise = re.compile(r"\w+_(bucket|created)\b")
        lines = [line for line in body.splitlines() if line.startswith(words[0]) and not noise.match(line)]
        print("\n".join(lines) if status == 200 else f"/metrics answered {status}: {body[:200]}")
    else:
        raise SystemExit(__doc__)


if __name__ == "__main__":
    main(*sys.argv[1:])
