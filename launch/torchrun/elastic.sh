#!/bin/bash
# Trains on as many nodes as there are, between two numbers, and resumes by itself when one leaves or joins.
#
#   NODES=1:4 HOST=node-0:29400 launch/torchrun/elastic.sh train --config dcgan --data.shards DIR --run.dir RUN
#
# on each node, also later. Variables:
#   NODES       fewest:most nodes; default 1:2
#   HOST        a node that stays, and a port, for the rendezvous
#   PROCESSES   on each node; default: one for each GPU ("gpu"); on CPUs a number
#   RESTARTS    how often the world may change or fail; default 10
#   ID          of the job, where several share a host; default chexdist
# The batch stays what it is: each world takes whole groups of it, so the samples are the same in any world.
set -o errexit -o nounset
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1  # else a node that joins later is not sent the ranks' store
exec torchrun --nnodes "${NODES:-1:2}" --nproc-per-node "${PROCESSES:-gpu}" --max-restarts "${RESTARTS:-10}" \
    --rdzv-backend c10d --rdzv-endpoint "$HOST" --rdzv-id "${ID:-chexdist}" \
    --rdzv-conf "${RDZV:-join_timeout=600,last_call_timeout=15}" -m chexdist "$@"
