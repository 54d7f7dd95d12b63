"""A real Slurm of two nodes on this machine: munged, slurmctld and two slurmds, on loopback alone.

Everything lies in one folder and belongs to this process; the machine's own Slurm, munge and /etc/hosts are
not touched.
"""

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Self

NODES = ("node1", "node2")
KILL_WAIT = 60
"""Seconds between Slurm's SIGTERM and its SIGKILL: twice the usual, for a busy machine to save in."""
CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
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
SelectTypeParameters=CR_CPU
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
NodeName=node1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=2 RealMemory=1000 State=UNKNOWN
NodeName=node2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=2 RealMemory=1000 State=UNKNOWN
PartitionName=test Nodes=node[1-2] Default=YES MaxTime=INFINITE State=UP
"""


class Cluster:
    """`with Cluster() as cluster:` starts it, waits until both nodes are idle, and stops it at the end."""

    def __init__(self) -> None:
        # not pytest's own folder: munged wants one that everybody may enter, with a short name for its socket
        self.folder = Path(tempfile.mkdtemp(prefix="chexdist-slurm-"))
        self.environment = {**os.environ, "SLURM_CONF": str(self.folder / "slurm.conf")}
        self.environment["PATH"] += ":/usr/sbin:/sbin"
        self._end = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as end:
            end.callback(shutil.rmtree, self.folder, ignore_errors=True)
            self._configure()
            self._end = end
            self._start_munged()
            self._start("slurmctld", "slurmctld", "-D", "-f", self.environment["SLURM_CONF"])
            for node in NODES:
                self._start(node, "unshare", "--uts", "--mount", "sh", "-c", self._node(node))
            until(self._both_idle, 30, self.logs)
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
        (self.folder / "slurm.conf").write_text(
            CONFIGURATION.format(
                host=socket.gethostname().partition(".")[0],
                ports=_free_ports(3),
                folder=self.folder,
                tracking="cgroup" if _freezer() else "linuxproc",
                kill_wait=KILL_WAIT,
            )
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
        self._end.callback(_stop, daemon)

    def _both_idle(self) -> bool:
        states = self.run("sinfo", "--noheader", "--Node", "--format", "%T", check=False).split()
        return states == ["idle", "idle"]

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
