"""What is counted and timed, for `/metrics`.

Labels hold codes, slugs and route templates; never personal data.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector

REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)

ARRIVALS = Counter(
    "sentralbord_arrivals",
    "What the doors took, by how the journal answered (accepted, duplicate, refused …).",
    ["channel", "disposition"],
    registry=REGISTRY,
)
PROCESSED = Counter(
    "sentralbord_processed",
    "Arrivals after intake, by outcome (new, threaded, duplicate, parked …).",
    ["channel", "outcome"],
    registry=REGISTRY,
)
INQUIRIES = Counter(
    "sentralbord_inquiries",
    "New inquiries by the department that the rules chose.",
    ["department"],
    registry=REGISTRY,
)
INTAKE_SECONDS = Histogram(
    "sentralbord_intake_seconds",
    "From the journal's commit until the inquiry stands in the queue.",
    ["channel"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60, 300),
    registry=REGISTRY,
)
SCANS = Counter(
    "sentralbord_scans",
    "Mails that the scanners looked at, by result (clean, spam, virus, unscanned).",
    ["result"],
    registry=REGISTRY,
)
STANZAS = Counter(
    "sentralbord_stanzas",
    "Messages by XMPP, by outcome (accepted, duplicate, answered, ignored, or the error that they"
    " were refused with).",
    ["outcome"],
    registry=REGISTRY,
)
RELAYS = Counter(
    "sentralbord_relays",
    "Inquiries whose holder was to be told by XMPP what their resident wrote, by outcome (told,"
    " failed).",
    ["outcome"],
    registry=REGISTRY,
)
DELIVERIES = Counter(
    "sentralbord_deliveries",
    "Attempts to send, by outcome (sent, retried, uncertain, failed; withdrawn: not tried, because"
    " somebody else has the inquiry now).",
    ["channel", "kind", "outcome"],
    registry=REGISTRY,
)
HOOKS = Counter(
    "sentralbord_hooks",
    "Webhooks of providers, by outcome (accepted, or why they were refused).",
    ["door", "outcome"],
    registry=REGISTRY,
)
CALL_COMMANDS = Counter(
    "sentralbord_call_commands",
    "What the phone provider was told to do with calls, by outcome (sent, queued, failed …).",
    ["verb", "outcome"],
    registry=REGISTRY,
)
HTTP_SECONDS = Histogram(
    "sentralbord_http_seconds",
    "Time to answer a request, by route template; of a live stream, the time to its first byte.",
    ["method", "route", "status"],
    buckets=(0.0025, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
    registry=REGISTRY,
)
