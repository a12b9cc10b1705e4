"""``python -m autocomp`` is the command line of :mod:`autocomp.cli`."""

from autocomp.cli.commands import main

if __name__ == "__main__":
    main()
