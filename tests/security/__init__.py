"""What somebody who means us harm may try, and what must not come of it."""
