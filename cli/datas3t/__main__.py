"""Run the command line: `python -m datas3t`."""

from datas3t.cli.main import main

if __name__ == "__main__":
    main()
