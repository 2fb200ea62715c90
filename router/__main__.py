"""`python -m router` is `sentralbord`."""

from router.cli import main

main()
