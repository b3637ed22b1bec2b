"""Statistics of a GitHub repository (https://docs.github.com/en/rest/repos/repos#get-a-repository).

Asked with the ETag of the last answer: a 304 says that the last values still hold, and costs nothing of the limit
(https://docs.github.com/en/rest/using-the-rest-api/best-practices-for-using-the-rest-api). Without a token the limit is
60 an hour for our whole address. There is no history: a time that was missed stays empty.
"""

from __future__ import annotations

from service.core.regions import everywhere
from service.guardrails.cards import mask
from service.integrations.http import HttpClient, PeerFailed
from service.integrations.sources.base import (
    DEADLINE_SECONDS,
    Ask,
    Limited,
    NotThere,
    Pulled,
    WrongKey,
    number,
    refuse_failure,
    rests_until,
)

REACH = everywhere("the system that the customer asked us to read, for what it knows")

NAME = "GitHub"
SERIES = {"stars": "stargazers_count", "issues": "open_issues_count"}


async def pull(http: HttpClient, address: str, ask: Ask) -> Pulled:
    """The numbers of this moment."""
    repository = ask.config["repository"]
    headers = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"}
    if ask.key:
        headers["Authorization"] = f"Bearer {ask.key}"
    if ask.etag:
        headers["If-None-Match"] = ask.etag
    answer = await http.send("GET", f"{address}/repos/{repository}", headers=headers, deadline=DEADLINE_SECONDS)
    used_up = answer.headers.get("x-ratelimit-remaining") == "0"
    # Both limits may come as 403; only the headers tell them from a token that may not.
    if answer.status == 403 and (used_up or "retry-after" in answer.headers):
        raise Limited("GitHub says that it was asked too often.", rests_until(answer, ask.now))
    refuse_failure(NAME, answer, ask.now)
    rest = rests_until(answer, ask.now) if used_up else None
    match answer.status:
        case 304 if ask.etag:
            return Pulled({}, ask.etag, unchanged=True, rest_until=rest)
        case 401:
            raise WrongKey("GitHub does not accept the token.")
        case 403 | 451:
            raise WrongKey(f"GitHub refuses access to {repository}{' with this token' if ask.key else ''}.")
        case 404:
            hint = "or this token may not see it" if ask.key else "or it is private and needs a token"
            raise NotThere(f"GitHub has no repository {repository}, {hint}.")
        case 301 | 302 | 307 | 308:
            raise NotThere(f"{repository} was renamed or moved: connect it under its new name.")
        case 200:
            found, at = answer.json_object(), ask.now.replace(microsecond=0)
            points = {series: [(at, number(found.get(field)))] for series, field in SERIES.items()}
            return Pulled(points, mask(answer.headers.get("etag", ""))[:200], rest_until=rest)
    raise PeerFailed(f"it answered {answer.status}")
