"""The desk for staff, the pages for residents, and the JSON interface."""
