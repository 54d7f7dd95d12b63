"""How pictures leave a run: audited for copies of training images, marked as synthetic, all of them or none.

Decides which pictures are exported (`produce`, `interpolation`, `history`), what they are compared with
(`audit`, `judged`), what their files say (`pictures`, `sheet`), and how a generator leaves as one file
(`export`, `card`). Called by `commands`; imports `evaluation` and the packages below it.
"""
