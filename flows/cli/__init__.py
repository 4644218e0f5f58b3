"""The command line, `make <verb>` or `python flows/cli <verb>`. Running flows use its `alerts`, `production` and `scratch`."""
