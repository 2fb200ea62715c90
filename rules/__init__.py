"""The study: pure decisions about inquiries. No I/O beyond loading YAML, no clock, no database."""
