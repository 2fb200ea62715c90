"""The phone door: what a provider or an exchange tells of calls, and what it is told to do."""
