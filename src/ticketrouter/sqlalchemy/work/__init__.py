"""What one call of a repository does: `call` sends it where the tables are, and one module each does what it asks for.

Law of this package: nothing stands in a class but the values of a call, `Here`; what is done with them are functions,
by what they are about: one `message`, a `batch` of them, or `moving`; beside these what each of them needs. Only
`old_reads` knows of plain reads that may be old or dirty.
"""
