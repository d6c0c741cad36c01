"""The command line; `smartmem.cli.app` is where it starts."""
