"""`python -m datas3t` is the command line."""

from datas3t.cli.main import main

if __name__ == "__main__":
    main()
