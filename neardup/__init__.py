"""neardup: finds the near-duplicates of an archive of press photographs and proves how well."""

__version__ = "0.1.0"
