"""`make bench`: whole numbers measured on this machine, beside a baseline of the same run."""
