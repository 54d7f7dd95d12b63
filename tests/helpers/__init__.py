"""What tests share. `tests/` is on pytest's path, and so on that of the processes that it starts.

The promises:
    cases: which trainings are compared, every combination of the registries' entries
    training: trains a few batches of a case on one rank, through the production path
    checks: the promises as assertions
    mutants: bugs that the checks must see
    worlds: functions as the ranks of a world, over gloo; over NCCL in `make test-gpu`
    host_waits: the training loop, and where its host waits for the device
    on_device: what ranks tell of the device that they compute on

Jobs and what goes wrong in them:
    jobs: `chexdist train` as the ranks of a job; starts, kills and compares
    faults: a kill, a pause, an error or a changed bit at an exact call
    doctors: `chexdist doctor`, in this process or as ranks
    hosts: two hosts on this machine, with a cable that can be cut
    cluster: a Slurm of two nodes on this machine
    slurm_jobs: a job on it

Files:
    xray_files: PNGs and DICOM images, the builder's input
    many_samples: a shard directory of 100,000 samples in no time
    shard_server: shards behind HTTP, with faults
    run_files: the files of a run, as training leaves them
    untrained: run directories with checkpoints that nobody trained
    html_page: a report as text, tags and tables
    chromium: a report in a browser
"""
