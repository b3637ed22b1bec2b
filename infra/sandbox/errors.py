"""What the sandbox says when it cannot go on."""


class SandboxError(RuntimeError):
    """One clear sentence for a person: what is wrong and what to do about it."""


class PortBusy(SandboxError):
    """Another program listens on the port we were told to use."""
