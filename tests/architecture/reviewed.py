"""Lists a person has looked at. Changing one is a decision: say in the commit why it is safe."""

from __future__ import annotations

PUBLIC_ROUTES = frozenset(
    {
        "GET /",
        "GET /change-email/{link}",
        "GET /developers",
        "GET /downloads/{link}",
        "GET /forgot",
        "GET /forgot/sent",
        "GET /impersonation/over",
        "GET /invitations/{token}",
        "GET /login",
        "GET /login/code",
        "GET /login/provider/return",
        "GET /pricing",
        "GET /privacy/notice",
        "GET /problems",
        "GET /problems/{code}",
        "GET /recover",
        "GET /recover/sent",
        "GET /recover/{link}",
        "GET /reset/{link}",
        "GET /sign-up",
        "GET /unsubscribe/{wish}",
        "GET /sign-up/sent",
        "GET /verify",
        "GET /verify/sent",
        "GET /verify/{link}",
        "POST /change-email/{link}",
        "POST /forgot",
        "POST /impersonation/over",
        "POST /login",
        "POST /login/code",
        "POST /login/provider",
        "POST /login/provider/finish",
        "POST /recover",
        "POST /recover/{link}",
        "POST /reset/{link}",
        "POST /sign-up",
        "POST /verify",
        "POST /verify/{link}",
    }
)
"""What somebody without a login may ask: getting in, getting back in, following a link we mailed, and what it costs."""

INFRASTRUCTURE_ROUTES = frozenset({"/livez", "/metrics", "/openapi.json", "/readyz", "/static", "/version"}) | {
    "/favicon.ico",
    "/unsubscribe/{wish}", "/webhooks/sendgrid", "/webhooks/sendgrid/", "/webhooks/stripe", "/webhooks/stripe/",
}  # fmt: skip
"""Probes, metrics, files, the schema, and messages under a signature: no person, no transaction, no limit."""

SIGNED_ADDRESSES = {
    "/unsubscribe/{wish}": "one click in a mailbox brings nothing but the link, which we signed (RFC 8058)",
}
"""Plain routes that believe the signature in their own address, not one over the body."""

NO_IDEMPOTENCY_KEY: frozenset[str] = frozenset()

GLOBAL_TABLES: dict[str, str] = {
    "audit_checks": "what was found in the log of all organizations; counts and times only",
    "audit_segments": "seals the audit log of all organizations in one chain; only maintenance reads it",
    "billing_customers": "a message names Stripe's customer, not the organization; ids and counters only",
    "billing_sweeps": "how far the comparison with Stripe has come, for all organizations",
    "encryption_keys": "what was encrypted by which key, for all organizations; holds no key",
    "consents": "belongs to a person, who may be in several organizations",
    "erasure_requests": "belongs to a person, and outlives their account",
    "erasure_steps": "what was done for a request, in numbers",
    "data_exports": "belongs to the person who asked, for themselves or as owner of an organization",
    "break_glass_grants": "emergency rights are a person's, and reach every organization; only staff look at them",
    "external_identities": "belongs to a person, who may be in several organizations",
    "file_findings": "staff look at what the scanner found in any organization; ids and the scanner's word only",
    "former_addresses": "belong to a person",
    "file_removals": "keys of objects whose rows, and perhaps whose organization, are gone already",
    "idempotency_keys": "belongs to an organization or, before there is one, to a person; forced row-level security",
    "inbox": "a message is saved before anybody knows whose it is; only staff may read it",
    "invariant_results": "what holds for the whole service",
    "legal_holds": "set by staff for any table",
    "mail_suppressions": "belongs to an address, which may be nobody's or a person's of several organizations",
    "news": "what staff send to everybody who agreed to it",
    "notification_choices": "belongs to a person, who may be in several organizations",
    "one_time_tokens": "belongs to a person",
    "organizations": "is the tenant; forced row-level security shows it to its members only",
    "processing_limits": "belongs to a person, who may be in several organizations",
    "periodic_runs": "when each job of the whole service ran last",
    "recovery_codes": "belongs to a person",
    "sent_mails": "belongs to an address; holds no word of the mail, and only jobs read it",
    "switches": "an operator's switch is for everybody",
    "users": "a person may belong to several organizations",
    "worker_heartbeats": "workers serve all organizations",
}
"""Tables without a tenant, each with the reason."""

WIDER_POLICIES: dict[str, str] = {
    "audit_log_of_nobody": "staff see what was done for no organization: switches, replays, what staff did for all",
    "organization_flags_of_all": "staff see which organizations were turned to a feature flag; they change one by one",
    "webhook_deliveries_failed": "staff see which messages were given up on anywhere; their query reads no payload",
    "invitations_by_token": "whoever holds an invitation's link sees that one, before belonging anywhere",
    "invitations_to_me": "a verified address sees the invitations sent to it",
    "memberships_own": "people see their own places in every organization, to switch between them",
    "organizations_inviting": "an invitation shows the name of its organization",
    "webhook_endpoints_failing": "staff see the endpoints of all organizations that take nothing, no message",
    **dict.fromkeys(
        (
            "api_keys_staff", "audit_log_staff", "billing_subscriptions_staff", "files_staff", "imports_staff",
            "memberships_staff", "organizations_staff", "sources_staff", "webhook_endpoints_staff",
        ),
        "staff look at all organizations, in transactions that StaffCtx begins, and each look is in the audit log",
    ),
    "organizations_of_member": "people see the organizations they have a place in, to switch and to restore",
}  # fmt: skip
"""Policies that ask for something else than the acting organization, each with the reason; they may only read."""

AGREED_WORDS: dict[str, str] = {
    "product_news 1": "b1514c2b2b3318c1",
    "usage_figures 1": "90d08b7ac881bc65",
}
"""Purpose and version -> what its words were: whoever agreed to a version agreed to these and to no others."""

JOBS_BY_THE_CLOCK: dict[str, str] = {
    "accounts.forget_unconfirmed": "removes people's data",
    "billing.find_what_ran_out": "looks at organizations' plans, which the contract needs",
    "erasure.follow_the_ledger": "removes people's data",
    "erasure.take_up_deleted_accounts": "removes people's data",
    "inbox.forget_bodies": "removes people's data",
    "invariants.check_invariants": "counts what is broken, and uses nothing for anything",
    "jobs.forget_old_entries": "removes what jobs left behind",
    "purge.remove_expired": "removes people's data",
    "resealing.reseal_old_values": "puts secrets under a newer key, and uses none",
    "webhooks.forget_old_secrets": "removes secrets that nobody signs with any more",
}
"""Jobs that run without anybody asking and need no purpose of their own, each with the reason."""

JOBS_OF_PEOPLE: dict[str, tuple[str, ...]] = {
    "a mail that the person has asked for, or a step of the login needs": (
        "accounts.answer_sign_up", "accounts.ask_new_address", "accounts.send_mail", "accounts.send_requested_link",
        "accounts.send_reset_link", "accounts.send_way_back", "privacy.tell_who_asked",
    ),
    "tells people what was done to their own account, which its security needs (GDPR Art. 32)": (
        "accounts.tell_former_address", "accounts.tell_of_change_password", "accounts.tell_of_confirm_address_of",
        "accounts.tell_of_confirm_totp", "accounts.tell_of_connect_identity", "accounts.tell_of_disconnect_identity",
        "accounts.tell_of_end_session_of", "accounts.tell_of_end_sessions_of", "accounts.tell_of_lock",
        "accounts.tell_of_recover", "accounts.tell_of_remove_totp", "accounts.tell_of_renew_recovery_codes",
        "accounts.tell_of_reset_password", "accounts.tell_of_reset_totp_of", "accounts.tell_of_undo_deletion",
        "accounts.tell_of_unlock", "support.mail_visited", "support.tell_of_the_end",
    ),
    "tells an organization's people what its contract needs them to know: plan, money, what has stopped": (
        "billing.mail_notice", "billing.mail_person", "sources.mail_stopped", "sources.tell_admins",
        "webhooks.mail_admin", "webhooks.tell_admins",
    ),
    "news of the workspace to its members; where it is mailed, each chooses it, and restricted ones are asked for": (
        "imports.tell_who_began", "notifications.mail_news", "notifications.tell_of_money",
        "notifications.tell_of_new_member", "notifications.tell_of_new_role", "notifications.tell_of_ownership",
    ),
    "invites whom a member named, and says who did": (
        "organizations.mail_invitation", "organizations.mail_invitation_again",
    ),
    "answers who used a right of theirs, or carries it out (GDPR Art. 12, 15, 17, 18)": (
        "consents.tell_before_it_ends", "erasure.tell_that_it_was_checked", "erasure.tell_that_it_was_refused",
        "erasure.tell_that_it_was_taken_back", "erasure.tell_that_somebody_wrote", "erasure.tell_when_it_begins",
        "erasure.begin_again", "erasures", "exports", "privacy.tell_whose_copy_was_made",
    ),
    "the mail of a purpose, which `deliver` asks for; or starts the job that asks": (
        "consents.begin_to_spread", "consents.mail_news",
    ),
    "keeps the list of addresses that are not written to (GDPR Art. 21(3))": (
        "mail-events", "notifications.prove_that_mail_arrives", "notifications.tell_the_provider",
    ),
    "says in the row of a visit or of a colleague's rights that it has ended, and tells staff": (
        "support.close_when_over", "support.end_rights", "support.mail_record", "support.mail_staff",
        "support.see_to_its_end", "support.see_to_the_end_of_rights", "support.tell_of_the_record",
        "support.tell_staff",
    ),
    "reads Stripe's messages about organizations that pay, and empties them": (
        "billing-operations", "billing-resolver", "billing-synchronizer",
    ),
}  # fmt: skip
"""Jobs that can read people's data and serve no purpose that people decide about, by the reason why not."""

INTERNAL_NAMES: dict[str, str] = {
    "billing_invoices.reason": "Stripe's word for what caused the invoice",
    "billing_ledger.about": "Stripe's number of a charge or an invoice",
    "billing_operations.reason": "staff's words about an organization's plan; staff read them, and they go with it",
    "billing_overrides.reason": "staff's words about an organization's plan; staff read them, and they go with it",
    "erasure_steps.name": "a step's name in the code",
    "inbox.reason": "why a message was put aside: a word of the code",
    "inbox.subject": "Stripe's number of the customer that a message is about; empty for mail",
    "invariant_results.name": "a check's name in the code",
    "organization_flags.name": "a flag's name in the code",
    "periodic_runs.name": "a job's name in the code",
    "switches.name": "a switch's name in the code",
    "switches.reason": "staff's words about the whole service, overwritten with the next ones",
    "webhook_endpoints.reason": "why it was stopped: a word of the code",
}
"""Columns of text that are declared internal although their name speaks of people, each with what is in it."""

STAFF_WITHOUT_REASON: dict[str, str] = {
    "admin.verify_log": "compares hashes of the log; reads and changes nobody's data",
    "billing.open_customer": "an empty customer at Stripe, for the plan given next, which does ask for its reason",
}
"""Writes of staff that take no reason, each with why."""
