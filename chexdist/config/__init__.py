"""The configuration: which settings exist and what they mean, where they are read from, what may be combined.

`tree` holds every setting with its documentation, `reference` writes that out, `load` reads YAML and the
command line, `rules` refuses combinations, `shipped` knows the configurations that come with chexdist. Any
package above may call it: all from `distributed` up take a `Config`. It imports `errors` and the registries
of `gan` and `metrics`, and never torch or numpy.
"""
