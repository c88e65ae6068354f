"""What scripts/invoke runs: `python -m dindkit.command_line`."""

from dindkit.command_line.program import main

if __name__ == "__main__":
    main()
