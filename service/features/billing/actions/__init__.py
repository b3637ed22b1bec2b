from service.features.billing.actions.system import notify, set_entitlement

__all__ = ["notify", "set_entitlement"]
