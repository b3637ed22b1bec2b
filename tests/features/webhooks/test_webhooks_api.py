"""A program sets its endpoint up, hears of a change, looks at the log and has it said again."""

from __future__ import annotations

from uuid import UUID, uuid4

from standardwebhooks import Webhook

from service.core import clock
from service.guardrails.permissions import Role
from tests.features.webhooks.conftest import Post


async def test_a_program_sets_up_its_own_endpoint(post: Post) -> None:
    given = {"url": post.receiver.url, "event_types": ["indicator.created", "indicator.created"]}
    intent = uuid4().hex
    answers = [await post.admin.api("POST", "/webhooks", given, **{"idempotency-key": intent}) for _ in range(2)]
    made = answers[0].json()
    assert [one.status_code for one in answers] == [201, 201]
    assert answers[1].json() == made, "the same intent twice is one endpoint"
    assert made["event_types"] == ["indicator.created"]
    assert (await post.admin.api("POST", "/indicators", {"name": "Told"})).status_code == 201
    assert await post.send() == 1
    [arrived] = post.receiver.arrivals
    Webhook(made["secret"]).verify(arrived.body, arrived.headers)
    base = f"/webhooks/{made['id']}"
    assert "secret" not in (await post.admin.api("GET", base)).json()
    [logged] = (await post.admin.api("GET", f"{base}/deliveries?state=delivered")).json()["items"]
    detail = (await post.admin.api("GET", f"/webhooks/deliveries/{logged['id']}")).json()
    assert detail["payload"]["type"] == "indicator.created"
    assert [one["status"] for one in detail["tried"]] == [200]
    again = await post.admin.api("POST", f"/webhooks/deliveries/{logged['id']}/replays")
    assert (again.status_code, again.json()["state"]) == (201, "waiting")
    assert await post.send() == 1
    range_ = {"since": "2026-01-01T00:00:00Z", "until": "2099-01-01T00:00:00Z", "delivered": True}
    assert (await post.admin.api("POST", f"{base}/replays", range_)).json() == {"messages": 1}
    assert {one.message_id for one in post.receiver.arrivals} == {arrived.message_id}


async def test_each_step_over_the_api(post: Post) -> None:
    endpoint = await post.endpoint()
    base = f"/webhooks/{endpoint}"
    moved = await post.admin.api("PATCH", base, {"url": "https://169.254.169.254/"})
    assert (moved.status_code, moved.json()["errors"][0]["field"]) == (422, "url")
    assert (await post.admin.api("PATCH", base, {"description": "New"})).json()["url"] == post.receiver.url
    seen = (await post.admin.api("GET", base)).headers["etag"]
    answers = [await post.admin.api("PATCH", base, {"ordered": True}, **{"if-match": seen}) for _ in range(2)]
    assert [one.status_code for one in answers] == [200, 412], "the second had not seen the first's change"
    assert (await post.admin.api("POST", f"{base}/pause")).json()["state"] == "paused"
    assert (await post.admin.api("POST", f"{base}/tests")).status_code == 409
    assert (await post.admin.api("POST", f"{base}/activation")).json()["state"] == "active"
    sent = (await post.admin.api("POST", f"{base}/tests")).json()
    assert (await post.admin.api("POST", f"/webhooks/deliveries/{sent['id']}/skip")).json()["state"] == "failed"
    assert (await post.admin.api("DELETE", base)).status_code == 204
    [gone] = (await post.admin.api("GET", "/webhooks/bin")).json()["items"]
    assert UUID(gone["id"]) == endpoint
    assert (await post.admin.api("POST", f"{base}/restoration")).status_code == 201
    assert [one["id"] for one in (await post.admin.api("GET", "/webhooks")).json()["items"]] == [str(endpoint)]


async def test_a_key_without_the_scope_reaches_nothing(post: Post) -> None:
    endpoint = await post.endpoint()
    post.admin.key = await post.factory.key(post.organization, scopes=["indicators:write"])
    for method, path in (("GET", ""), ("POST", f"/{endpoint}/tests"), ("DELETE", f"/{endpoint}")):
        assert (await post.admin.api(method, f"/webhooks{path}")).status_code == 403
    post.admin.key = await post.factory.key(post.organization, Role.MEMBER)
    assert (await post.admin.api("GET", "/webhooks")).status_code == 403
    assert (await post.row("webhook_endpoints", endpoint))["created_at"] <= clock.now()
