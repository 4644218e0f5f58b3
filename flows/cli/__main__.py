"""Starts the command line, as `python flows/cli` or as `python -m cli`."""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # modules are found from flows/, not from here
    from cli.app import main

    main()
