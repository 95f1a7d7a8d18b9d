"""The demonstration: the Python standard library as a graph of objects in a store.

To learn pstore from it, read in this order: `model` (the classes), `keep` (the graph goes into a store), `reopen` and
`questions` (another process finds it again, asks it and changes it), `text_reader` and `resume` (an object with a file
handle goes on in a third process). `library` and `names` read the sources and know nothing of stores.
"""
