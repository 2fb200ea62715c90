"""The doors: each turns wire bytes into `Incoming` and `Outgoing` into wire bytes."""
