"""How the stand-in talks: keys, errors, expansion, pages of lists, and the catalogue."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
import stripe
from stripe import StripeClient

from infra.sandbox.stripe.knobs import StripeKnobs
from infra.sandbox.stripe.server import StripeStandIn
from tests.sandbox.stripe.business import Business


def test_a_wrong_key_is_refused(stand_in: StripeStandIn) -> None:
    client = StripeClient("sk_test_other", base_addresses={"api": stand_in.address})

    with pytest.raises(stripe.AuthenticationError) as refused:
        client.v1.customers.list()

    assert (refused.value.http_status, "sk_test_other" in str(refused.value)) == (401, False)
    assert httpx.get(f"{stand_in.address}/v1/customers").status_code == 401
    assert httpx.get(f"{stand_in.address}/v1/customers", auth=(stand_in.secret_key, "")).status_code == 200


@pytest.mark.parametrize("method", ["get", "post", "delete"])
@pytest.mark.parametrize("path", ["/v1/unicorns", "/v1/customers/cus_1/unicorns", "/v2/unicorns"])
def test_an_unknown_path_has_stripes_answer(stand_in: StripeStandIn, method: str, path: str) -> None:
    answer = httpx.request(method, stand_in.address + path, headers={"Authorization": f"Bearer {stand_in.secret_key}"})

    assert answer.status_code == 404
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert f"({method.upper()}: {path})" in answer.json()["error"]["message"]


def test_what_is_not_there_is_named(client: StripeClient) -> None:
    with pytest.raises(stripe.InvalidRequestError, match="No such subscription: 'sub_x'") as missing:
        client.v1.subscriptions.retrieve("sub_x")

    assert (missing.value.http_status, missing.value.code, missing.value.param) == (404, "resource_missing", "id")


def test_what_a_parameter_names_in_vain_is_a_400(client: StripeClient) -> None:
    """A path that leads nowhere is a 404, a reference that does is a mistake in the parameters."""
    with pytest.raises(stripe.InvalidRequestError, match="No such customer: 'cus_x'") as missing:
        client.v1.checkout.sessions.create({"mode": "setup", "success_url": "http://x.example", "customer": "cus_x"})

    assert (missing.value.http_status, missing.value.code, missing.value.param) == (400, "resource_missing", "customer")


def test_a_list_of_a_customer_that_is_unknown_is_refused_and_of_one_that_is_gone_is_not(business: Business) -> None:
    v1, subscription = business.client.v1, business.subscribe()
    v1.customers.delete(str(subscription.customer))

    listed = v1.subscriptions.list({"customer": str(subscription.customer), "status": "all"}).data

    assert [one.id for one in listed] == [subscription.id]
    with pytest.raises(stripe.InvalidRequestError, match="No such customer: 'cus_x'"):
        v1.subscriptions.list({"customer": "cus_x"})


def test_a_missing_parameter_is_named(client: StripeClient) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.subscriptions.create({"customer": "cus_x"})

    assert (refused.value.code, refused.value.param) == ("parameter_missing", "items")


def test_every_answer_names_its_request_and_version(stand_in: StripeStandIn, client: StripeClient) -> None:
    answer = client.v1.customers.create({"name": "Ada"})

    assert answer.last_response
    assert answer.last_response.headers["Request-Id"].startswith("req_")
    assert answer.last_response.headers["Stripe-Version"] == stripe.api_version
    event = client.v1.events.list().data[0]
    assert event.request
    assert event.request.id == answer.last_response.headers["Request-Id"]


def test_objects_are_expanded_where_asked_for(business: Business) -> None:
    subscription = business.subscribe()
    paths = ["data.customer", "data.latest_invoice.payments.data.payment.payment_intent"]

    (shown,) = business.client.v1.subscriptions.list({"expand": paths}).data

    assert isinstance(shown.customer, stripe.Customer)
    invoice: Any = shown.latest_invoice
    assert invoice.payments.data[0].payment.payment_intent.status == "succeeded"
    assert business.now(subscription).customer == shown.customer.id


def test_what_cannot_be_expanded_is_refused(business: Business) -> None:
    business.customer(card="")

    with pytest.raises(stripe.InvalidRequestError, match="cannot be expanded"):
        business.client.v1.customers.list({"expand": ["data.unicorn"]})


def test_pages_are_walked_in_both_directions(client: StripeClient) -> None:
    made = [client.v1.customers.create({"name": str(number)}).id for number in range(7)]

    newest_first = [one.id for one in client.v1.customers.list({"limit": 3}).auto_paging_iter()]
    middle = client.v1.customers.list({"limit": 3, "starting_after": made[6]})
    back = client.v1.customers.list({"limit": 3, "ending_before": made[0]})

    assert newest_first == made[::-1]
    assert ([one.id for one in middle.data], middle.has_more) == ([made[5], made[4], made[3]], True)
    assert ([one.id for one in back.data], back.has_more) == ([made[3], made[2], made[1]], True)


@pytest.mark.parametrize("limit", [0, 101, -1])
def test_a_page_has_one_to_a_hundred_objects(client: StripeClient, limit: int) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.customers.list({"limit": limit})

    assert refused.value.param == "limit"


def test_lists_are_filtered_by_time(business: Business) -> None:
    first = business.customer(card="")
    business.wait(100)
    second = business.customer(card="")

    def listed(**created: int) -> list[str]:
        params: Any = {"created": created}
        return [one.id for one in business.client.v1.customers.list(params).data]

    assert listed(gte=second.created) == listed(gt=first.created) == [second.id]
    assert listed(lt=second.created) == listed(lte=first.created) == [first.id]


def test_what_lists_say_of_one_customer_can_be_garbled(business: Business) -> None:
    garbled, whole = business.subscribe(), business.subscribe()
    business.stand_in.knobs = StripeKnobs(garbled=str(garbled.customer))

    (nothing,) = business.client.v1.subscriptions.list({"customer": str(garbled.customer)}).data
    (everything,) = business.client.v1.subscriptions.list({"customer": str(whole.customer)}).data

    assert (nothing.id, hasattr(nothing, "status"), everything.status) == (garbled.id, False, "active")


def test_customers_are_found_by_mail_and_metadata(client: StripeClient) -> None:
    ada = client.v1.customers.create({"email": "ada@example.com", "metadata": {"org": "7"}})
    client.v1.customers.create({"email": "bob@example.com"})

    assert [one.id for one in client.v1.customers.list({"email": "ada@example.com"}).data] == [ada.id]
    assert [one.id for one in client.v1.customers.search({"query": "metadata['org']:'7'"}).data] == [ada.id]


def test_a_lookup_key_belongs_to_one_price_and_can_move(business: Business) -> None:
    params: Any = {"currency": "usd", "unit_amount": 1, "product": business.basic.product, "lookup_key": "basic"}
    with pytest.raises(stripe.InvalidRequestError) as refused:
        business.client.v1.prices.create(params)
    assert refused.value.param == "lookup_key"

    moved = business.client.v1.prices.create(params | {"transfer_lookup_key": True})

    assert [one.id for one in business.client.v1.prices.list({"lookup_keys": ["basic"]}).data] == [moved.id]
    assert business.client.v1.prices.retrieve(business.basic.id).lookup_key is None


def test_a_subscription_shows_its_price_as_it_is_today(business: Business) -> None:
    subscription = business.subscribe()

    business.client.v1.prices.update(business.basic.id, {"active": False, "nickname": "old"})

    assert business.now(subscription).items.data[0].price.nickname == "old"
    with pytest.raises(stripe.InvalidRequestError, match="inactive"):
        business.subscribe()


def test_entitlements_follow_the_subscription(business: Business) -> None:
    v1 = business.client.v1
    feature = v1.entitlements.features.create({"lookup_key": "api", "name": "API"})
    v1.products.features.create(str(business.basic.product), {"entitlement_feature": feature.id})
    known = len(business.events())

    subscription = business.subscribe()

    def active() -> list[str]:
        customer = str(subscription.customer)
        return [one.lookup_key for one in v1.entitlements.active_entitlements.list({"customer": customer}).data]

    assert active() == ["api"]
    v1.subscriptions.cancel(subscription.id)
    assert active() == []
    assert business.types(known).count("entitlements.active_entitlement_summary.updated") == 2


def test_two_runs_with_one_seed_have_the_same_ids() -> None:
    def ids(seed: int) -> list[str]:
        with StripeStandIn(seed=seed) as stand_in:
            client = StripeClient(stand_in.secret_key, base_addresses={"api": stand_in.address})
            return [client.v1.customers.create({}).id for _ in range(3)]

    assert ids(1) == ids(1) != ids(2)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "subscriptions", "items[0][price]=x&items[0]=y"),
        ("POST", "subscriptions", "a[b][c][d][e][f][g][h][i][j]=1"),
        ("POST", "subscriptions", "a=1&a[b]=2"),
        ("POST", "customers", "metadata=x"),
        ("POST", "customers", "invoice_settings=x"),
        ("POST", "products", "name=x&metadata[0]=x"),
        ("POST", "checkout/sessions", "mode=payment&success_url=x&line_items=x"),
        ("POST", "webhook_endpoints", "url[a]=x&enabled_events[0]=*"),
        ("GET", "customers?limit=x", ""),
        ("GET", "customers?created[near]=1", ""),
        ("GET", "customers?created[gte]=x", ""),
    ],
)
def test_nonsense_is_refused_and_never_breaks_the_server(
    stand_in: StripeStandIn, method: str, path: str, body: str
) -> None:
    headers = {"Authorization": f"Bearer {stand_in.secret_key}", "Content-Type": "application/x-www-form-urlencoded"}

    answer = httpx.request(method, f"{stand_in.address}/v1/{path}", content=body, headers=headers)

    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"
