"""Who somebody is and how they prove it."""

from service.features.accounts.models.credentials import ExternalIdentity, OneTimeToken, Purpose, RecoveryCode
from service.features.accounts.models.user import User

__all__ = [
    "ExternalIdentity", "OneTimeToken", "Purpose", "RecoveryCode", "User",
]  # fmt: skip
