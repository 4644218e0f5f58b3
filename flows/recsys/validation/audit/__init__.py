"""Audits: what a model makes of changed input, such as bad days and perturbed users. Costly, so only `make audit` runs them."""
