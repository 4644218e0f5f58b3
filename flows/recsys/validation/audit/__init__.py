"""Audits: tests of a model on changed input, such as lost days and perturbed users. They are costly, so only `make audit`, or
`validation.audit = true` in config.toml, runs them."""
