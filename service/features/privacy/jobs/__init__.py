from service.features.privacy.jobs import exports

__all__ = ["exports"]
