"""`sentralbord`, which `python -m router` is too."""

import gc


def main() -> None:
    """Run the command line."""
    # What is loaded now stays: looking through it for garbage is a fifth of the start.
    gc.disable()
    from router.cli import main as run

    run()


if __name__ == "__main__":
    main()
