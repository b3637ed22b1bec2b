from service.features.privacy.models.exports import DataExport, Scope, State

__all__ = ["DataExport", "Scope", "State"]
