"""The command `uqueue`, also `python -m uqueue`."""

from __future__ import annotations

import sys

_NEEDED = {"typer", "rich"}


def main() -> None:
    """Run the command line; exit 2 with one sentence where its libraries are not installed."""
    try:
        from uqueue.cli.app import run
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] not in _NEEDED:
            raise
        print(  # noqa: T201 - there is no console yet
            f'The command line needs {error.name}, which is not installed: pip install "uqueue[cli]"', file=sys.stderr
        )
        raise SystemExit(2) from None
    run()


if __name__ == "__main__":
    main()
