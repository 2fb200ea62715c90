"""The hall: journal → intake → routing → queue → replies → outbox, with the desk, the store and
the jobs."""

__version__ = "0.1.0"
