"""A real Slurm of three nodes on this machine: munged, slurmctld and three slurmds, on loopback alone.

Everything lies in one folder and belongs to this process; the machine's own Slurm, munge and /etc/hosts are
not touched.
"""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Self

NODES = ("node1", "node2", "node3")
"""Jobs of two nodes get the first two; the third is there for when one is lost."""
KILL_WAIT = 60
"""Seconds between Slurm's SIGTERM and its SIGKILL: twice the usual, for a busy machine to save in."""
CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
# a requeued job waits until its old credential has expired, two minutes by default
AuthInfo=socket={folder}/munge/socket,cred_expire=5
ProctrackType=proctrack/{tracking}
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SwitchType=switch/none
SlurmdParameters=config_overrides
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
SelectType=select/cons_tres
# CPUs and memory are given by request: a job that asks for neither has one CPU and 100 MB on a node
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=100
GresTypes=gpu
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmdTimeout=30
SchedulerParameters=sched_interval=5,bf_interval=5,sched_min_interval=0,batch_sched_delay=0
ReturnToService=2
MinJobAge=3600
KillWait={kill_wait}
JobRequeue=1
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd-%n.log
PlugStackConfig=/dev/null
"""
NODE = (
    "NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=64 RealMemory=600000 Gres=gpu:8 "
    "State=UNKNOWN\n"
)
"""As large as a node for training; only Slurm believes it."""
PARTITIONS = """
PartitionName=test Nodes=ALL Default=YES MaxTime=INFINITE PriorityTier=1 State=UP
PartitionName=urgent Nodes=ALL MaxTime=INFINITE PriorityTier=2 State=UP
"""
"""Jobs in `urgent` preempt those in `test`."""


class Cluster:
    """`with Cluster() as cluster:` starts it, waits until all nodes are idle, and stops it at the end."""

    def __init__(self) -> None:
        # not pytest's own folder: munged wants one that everybody may enter, with a short name for its socket
        self.folder = Path(tempfile.mkdtemp(prefix="chexdist-slurm-"))
        self.environment = {**os.environ, "SLURM_CONF": str(self.folder / "slurm.conf")}
        self.environment["PATH"] += ":/usr/sbin:/sbin"
        self._end = ExitStack()
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        with ExitStack() as end:
            end.callback(shutil.rmtree, self.folder, ignore_errors=True)
            self._configure()
            self._end = end
            self._start_munged()
            self._start("slurmctld", "slurmctld", "-D", "-f", self.environment["SLURM_CONF"])
            for node in NODES:
                self.start_node(node)
            until(self.all_idle, 30, self.logs)
            end.callback(self._cancel_all)
            self._end = end.pop_all()
        return self

    def __exit__(self, *failure: object) -> None:
        self._end.close()

    def _configure(self) -> None:
        self.folder.chmod(0o755)
        for name in ("munge", "state", "log", *(f"spool-{node}" for node in NODES)):
            (self.folder / name).mkdir(mode=0o755)
        names = "".join(f"127.0.0.1 {name}\n" for name in ("localhost", socket.gethostname(), *NODES))
        (self.folder / "hosts").write_text(names)
        host, ports = socket.gethostname().partition(".")[0], _free_ports(1 + len(NODES))
        described = CONFIGURATION.format(
            host=host,
            port=ports[0],
            folder=self.folder,
            tracking="cgroup" if _freezer() else "linuxproc",
            kill_wait=KILL_WAIT,
        )
        for node, port in zip(NODES, ports[1:], strict=True):
            described += NODE.format(node=node, host=host, port=port)
        (self.folder / "slurm.conf").write_text(described + PARTITIONS)
        for number in range(8):
            (self.folder / f"gpu{number}").touch()
        (self.folder / "gres.conf").write_text(
            f"NodeName=node[1-{len(NODES)}] Name=gpu File={self.folder}/gpu[0-7]\n"
        )
        cgroups = "CgroupPlugin=cgroup/v1\nCgroupAutomount=no\nConstrainCores=no\nConstrainRAMSpace=no\n"
        (self.folder / "cgroup.conf").write_text(cgroups)

    def _start_munged(self) -> None:
        munge = self.folder / "munge"
        (munge / "key").write_bytes(secrets.token_bytes(1024))
        (munge / "key").chmod(0o600)
        files = [f"--{name}-file={munge / name}" for name in ("key", "pid", "seed", "log")]
        self._start("munged", "munged", "--foreground", f"--socket={munge / 'socket'}", *files)
        until((munge / "socket").exists, 10, self.logs)

    def start_node(self, node: str) -> None:
        """The node's daemon, under a host name of its own."""
        self._start(node, "unshare", "--uts", "--mount", "sh", "-c", self._node(node))

    def lose_node(self, node: str) -> None:
        """`kill -9` for all that runs on the node, Slurm's daemon first: nobody says goodbye."""
        daemon = self._daemons[node]
        own = os.readlink(f"/proc/{daemon.pid}/ns/uts")
        daemon.kill()
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # ended, or is ending
                if os.readlink(process / "ns/uts") == own:
                    os.kill(int(process.name), signal.SIGKILL)
        daemon.wait()

    def _node(self, node: str) -> str:
        """The shell line of a node: its own host name, and host names that resolve inside it alone."""
        return (
            f"mount --bind {self.folder}/hosts /etc/hosts && hostname {node} && "
            f"exec slurmd -D -N {node} -f {self.folder}/slurm.conf"
        )

    def _start(self, name: str, *words: str) -> None:
        """A daemon that ends with this block, or when this process is killed."""
        with (self.folder / "log" / f"{name}.out").open("w") as output:
            daemon = subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", *words],
                cwd="/",
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self._daemons[name] = daemon
        self._end.callback(_stop, daemon)

    def all_idle(self) -> bool:
        """Whether every node waits for jobs."""
        states = self.run(
            "sinfo", "--noheader", "--Node", "--partition", "test", "--format", "%T", check=False
        ).split()
        return states == ["idle"] * len(NODES)

    def _cancel_all(self) -> None:
        """Jobs outlive the daemons, so they go first."""
        for job in self.run("squeue", "--noheader", "--format", "%A").split():
            self.run("scancel", "--full", "--signal=KILL", job, check=False)
            self.run("scancel", job, check=False)
        until(lambda: not self.run("squeue", "--noheader"), 60, self.logs)

    def run(self, *words: str, check: bool = True, **more: str) -> str:
        """What a command of Slurm's prints; `more` are variables for it. With `check`, it must end with 0."""
        done = subprocess.run(
            words, env={**self.environment, **more}, capture_output=True, text=True, check=False, timeout=60
        )
        assert not check or done.returncode == 0, f"{words}: {done.stdout}{done.stderr}{self.logs()}"
        return done.stdout

    def logs(self) -> str:
        """The ends of all daemons' logs."""
        files = sorted((self.folder / "log").iterdir())
        return "".join(f"\n== {path.name}\n{path.read_text()[-1500:]}" for path in files)


def until(condition: Callable[[], object], seconds: float, explain: Callable[[], str]) -> None:
    """Wait until something is so; time running out is an error with this explanation."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, explain()
        time.sleep(0.2)


def _stop(daemon: subprocess.Popen[bytes]) -> None:
    daemon.terminate()
    try:
        daemon.wait(15)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()


def _freezer() -> bool:
    """Whether a writable freezer hierarchy of cgroup v1 is here.

    With it signals reach what they reach on a cluster, a step's own tasks; without it, also their children.
    """
    root = Path("/sys/fs/cgroup/freezer")
    return (root / "tasks").exists() and os.access(root, os.W_OK)


def _free_ports(number: int) -> list[int]:
    listeners = [socket.socket() for _ in range(number)]
    try:
        for listener in listeners:
            listener.bind(("127.0.0.1", 0))
        return [listener.getsockname()[1] for listener in listeners]
    finally:
        for listener in listeners:
            listener.close()
