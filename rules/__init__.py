"""The study: pure decisions about inquiries. No I/O but loading YAML, no clock, no database.

Where to begin: `ruleset.load`, then `decide.decide(ruleset, Facts(…))`; `testing.run_tests`;
`targets.reply_due` with a `calendar.WorkingCalendar`; `order.queue_key`. `document` reads YAML for
the rules and for config.yaml alike.
"""
