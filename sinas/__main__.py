"""`python -m sinas`: the command line."""

from sinas.cli import main

if __name__ == "__main__":
    main()
