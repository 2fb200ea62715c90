"""Chat: the widget on our own and others' pages, and what every door for talks shares."""
