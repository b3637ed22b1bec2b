"""A person who is erased is forgotten at Stripe: as the contact of an organization that goes on, or with theirs.

What Stripe must keep (invoices, for the tax office: GDPR Art. 17(3)(b)) stays with Stripe. Only customers that we made
are touched: an account at Stripe may serve other products, too.
"""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import func, select

from service.core.context import Resources
from service.features.accounts.models import User
from service.features.billing.models import BillingCustomer
from service.features.organizations.models import Membership, Organization
from service.guardrails.purge import refuse_while_held
from service.integrations.stripe.client import StripeApi
from service.integrations.stripe.errors import StripeAbsent
from service.integrations.stripe.pace import Urgency

MOST = 100
GOES_ON = (
    select(func.count())
    .select_from(Membership)
    .join(User, User.id == Membership.user_id)
    .join(Organization, Organization.id == Membership.organization_id)
)
THEIRS = select(BillingCustomer.stripe_customer_id, BillingCustomer.organization_id).join(
    Membership, Membership.organization_id == BillingCustomer.organization_id
)
THEIRS = THEIRS.execution_options(across_tenants=True)


async def forget_person(resources: Resources, person: UUID, emails: tuple[str, ...], key: str) -> dict[str, int]:
    """How many customers were emptied of the addresses, and how many deleted. Raises StripeFailed; again is no harm.
    Conflict while a hold keeps an organization that would go with them."""
    api, done = resources.get(StripeApi), {"emptied": 0, "deleted": 0}
    if not api.enabled:
        return done
    for customer, organization in (await _customers(resources, api, person, emails)).items():
        path = f"/v1/customers/{customer}"
        if await _others_in(resources, organization, person):
            emptied = {"email": "", "phone": "", "description": ""}
            await api.patiently("post", path, emptied, key=f"{key}:{customer}", urgency=Urgency.SWEEP)
            done["emptied"] += 1
            continue
        async with resources.database.unit_of_work(tenant=None) as work:
            await refuse_while_held(work, organization)
        try:
            await api.patiently("delete", path, key=f"{key}:{customer}", urgency=Urgency.SWEEP)
        except StripeAbsent:
            continue
        done["deleted"] += 1
    return done


async def _customers(resources: Resources, api: StripeApi, person: UUID, emails: tuple[str, ...]) -> dict[str, UUID]:
    """Those that have one of the addresses, and those of organizations that are theirs alone, whatever they have."""
    found = dict[str, UUID]()
    for email in emails:
        async for customer in api.every("/v1/customers", {"email": email}, urgency=Urgency.SWEEP, most=MOST):
            if organization := await _organization_of(resources, customer["id"]):
                found[customer["id"]] = organization
    async with resources.as_maintenance.unit_of_work(read_only=True) as work:
        rows = (await work.session.execute(THEIRS.where(Membership.user_id == person))).all()
    return found | {name: at for name, at in rows if not await _others_in(resources, at, person)}


async def _organization_of(resources: Resources, stripe_customer_id: str) -> UUID | None:
    wanted = select(BillingCustomer.organization_id).where(BillingCustomer.stripe_customer_id == stripe_customer_id)
    async with resources.database.unit_of_work(tenant=None, read_only=True) as work:
        found: UUID | None = await work.session.scalar(wanted)
        return found


async def _others_in(resources: Resources, organization: UUID, person: UUID) -> bool:
    """Whether somebody else is left there; in a deleted organization nobody is."""
    async with resources.database.unit_of_work(tenant=organization, read_only=True) as work:
        return bool(await work.session.scalar(GOES_ON.where(Membership.user_id != person)))
