"""The command line, `datas3t`."""
