"""What a user may set, typed and checked: the tables of `neardup.toml`, and the file itself.

In: a TOML file and options of the command line. Out: one frozen `Settings`. Imports `errors` alone.
"""
