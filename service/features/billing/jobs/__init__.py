from service.features.billing.jobs import followers, loops

__all__ = ["followers", "loops"]
