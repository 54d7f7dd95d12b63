"""Random faults against whole commands: which, when and where is decided by a seed.

schedule: what happens in a trial, from its seed alone
sandbox: a small disk, a small /dev/shm and two hosts, which faults fill and cut
scene: one start of a command, its processes, and the faults that hit it
targets: what is started, and what an undisturbed one leaves
checks: what must be so after a start that was disturbed, and after the one that follows
"""
