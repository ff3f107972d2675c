"""Pure helpers that would make sense in another project: no I/O, no sinas imports but errors."""
