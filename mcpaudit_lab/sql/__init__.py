"""The two tables of the audit record, and filters as SQL over them."""
