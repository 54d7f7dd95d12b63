"""The run directory: what its files are called (`layout`), how they are written, and what is read out of one.

A checkpoint holds `checkpoint.State` and the tensors that `training.networks.Gan.state` names; `saver`
decides when one is written, `retention` which are kept and which is best; `trained` loads a generator out of
one. No package above spells a name of a run. Rank 0 writes, but any rank may record a failure. Imports
`data`, `distributed`, `config`, `metrics`, `gan`."""
