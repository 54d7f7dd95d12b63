"""From a shard directory to the exact sequence of training batches.

Decides which sample is in which batch (`order`) and how it comes to a rank: `manifest` -> `order` -> `reader`
-> `loader`, and for remote shards `remote`, `cache`, `ahead` and `prefetch`. Called by `evaluation`,
`training`, `generation` and the doctor; imports `distributed` and `config`.
"""
