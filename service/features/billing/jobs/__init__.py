from service.features.billing.jobs import followers, loops, mails, sweeps

__all__ = ["followers", "loops", "mails", "sweeps"]
