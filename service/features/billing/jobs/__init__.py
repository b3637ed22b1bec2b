from service.features.billing.jobs import followers, loops, sweeps

__all__ = ["followers", "loops", "sweeps"]
