"""Who somebody is and how they prove it."""

from service.features.accounts.models.address import FormerAddress, former_addresses
from service.features.accounts.models.credentials import ExternalIdentity, OneTimeToken, Purpose, RecoveryCode
from service.features.accounts.models.user import User

__all__ = [
    "ExternalIdentity", "FormerAddress", "OneTimeToken", "Purpose", "RecoveryCode", "User", "former_addresses",
]  # fmt: skip
