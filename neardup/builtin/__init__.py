"""The encoder that neardup ships and how it is made, and the archive that the demo draws.

In: photographs that anybody may use, and seeds. Out: `checkpoint/`, a drawn archive. Imports all but the command line.
"""
