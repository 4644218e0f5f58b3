"""The command line: `make <verb>` or `python flows/cli <verb>`. Flows import its modules `alerts`, `production` and `scratch`."""
