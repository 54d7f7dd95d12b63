"""How pictures leave a run: audited for copies of training images, marked as synthetic, all of them or none.

Decides which pictures are exported (`produce`), what they are compared with (`audit`) and what their files
say (`pictures`, `sheet`). Called by `commands`; imports `run`, `data`, `metrics`, `config` and `errors`.
"""
