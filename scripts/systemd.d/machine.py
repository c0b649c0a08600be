"""A machine with a real systemd as process 1: a Debian root under systemd-nspawn, with a network of its own.

Owns booting it, entering it and ending it. What is done on it is services.py's affair. Every mount and interface is in
namespaces of the caller (scripts/systemd makes them) and goes when that ends; the machine ends with the caller.
"""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
REBOOT = 133  # what systemd-nspawn --keep-unit ends with when the machine asked for a reboot


class Failed(Exception):
    """A step did not do what it promises."""


def run(arguments, *, check=True, stdin=None, timeout=120, cwd=None):
    """Runs a program; what it printed goes into the error, never its input."""
    try:
        done = subprocess.run(arguments, input=stdin, capture_output=True, text=True, errors="replace", timeout=timeout, cwd=cwd)
    except subprocess.TimeoutExpired:
        raise Failed(f"no end within {timeout} s: {' '.join(arguments)}") from None
    if check and done.returncode != 0:
        raise Failed(f"exit {done.returncode}: {' '.join(arguments)}: {(done.stderr or done.stdout).strip()[-1500:]}")
    return done


def until(what, look, timeout=90):
    """Asks until the answer is neither None nor False nor a failure; `what` names what was waited for."""
    end, last = time.monotonic() + timeout, None
    while time.monotonic() < end:
        try:
            found = look()
            if found is not None and found is not False:
                return found
        except (Failed, KeyError, ValueError) as error:
            last = error
        time.sleep(0.2)
    raise Failed(f"{what}: not within {timeout} s" + (f"; last: {last}" if last else ""))


class Machine:
    """One machine. Its files are a layer over the base, kept over its reboots and removed with it."""

    def __init__(self, base, work, name, address):
        self.base, self.folder, self.name, self.address = base, work / name, name, address
        self.cgroup = CGROUPS / f"rap-systemd-{os.getpid()}-{name}"
        self.boots, self.supervisor = 0, None

    def make(self):
        """Its file system and its end of the wire, which needs `connect` to lead somewhere."""
        shutil.rmtree(self.folder, ignore_errors=True)
        for part in ("upper", "work", "root"):
            (self.folder / part).mkdir(parents=True)
        options = f"lowerdir={self.base},upperdir={self.folder}/upper,workdir={self.folder}/work"
        run(["mount", "-t", "overlay", "overlay", "-o", options, str(self.folder / "root")])
        run(["ip", "netns", "add", self.name])
        run(["ip", "-n", self.name, "link", "set", "lo", "up"])

    def connect(self, other):
        """A wire between two machines."""
        run(["ip", "link", "add", "eth0", "netns", self.name, "type", "veth", "peer", "name", "eth0", "netns", other.name])
        for machine in (self, other):
            run(["ip", "-n", machine.name, "address", "add", f"{machine.address}/24", "dev", "eth0"])
            run(["ip", "-n", machine.name, "link", "set", "eth0", "up"])

    def boot(self, timeout=120):
        """Starts it and waits until its systemd has started what is enabled."""
        self.cgroup.mkdir(exist_ok=True)
        log = open(self.folder / "console.log", "ab")
        # Its systemd filters devices by BPF as on a machine of its own, so it needs that call and every capability.
        words = ["setpriv", "--pdeathsig", "KILL", "systemd-nspawn", "--quiet", "--boot", "--register=no", "--keep-unit",
                 f"--machine={self.name}", f"--hostname={self.name}", f"--directory={self.folder}/root",
                 f"--network-namespace-path=/run/netns/{self.name}", "--capability=all", "--system-call-filter=bpf",
                 "--bind=/dev/net/tun", "--resolv-conf=off", "--timezone=off", "--link-journal=no", "--console=read-only"]
        environment = {"PATH": os.environ["PATH"], "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"}
        enter = self.cgroup / "cgroup.procs"
        self.supervisor = subprocess.Popen(["sh", "-c", f'echo $$ >"{enter}" && exec "$@"', "boot", *words], env=environment,
                                           stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        log.close()
        self.boots += 1
        until(f"{self.name} runs systemd", self.leader, 30)
        self.state = until(f"{self.name} is up", self.is_up, timeout)

    def leader(self):
        """Process 1 of the machine, as seen from outside."""
        if self.supervisor.poll() is not None:
            said = (self.folder / "console.log").read_text(errors="replace").strip()[-1500:]
            raise Failed(f"{self.name} ended with {self.supervisor.returncode}: {said}")
        children = Path(f"/proc/{self.supervisor.pid}/task/{self.supervisor.pid}/children").read_text().split()
        for child in children:
            if Path(f"/proc/{child}/comm").read_text().strip() == "systemd":
                return child
        return None

    def is_up(self):
        said = self.run("systemctl is-system-running", check=False).stdout.strip()
        return said if said in ("running", "degraded") else None

    def run(self, line, *, check=True, stdin=None, timeout=120):
        """What root types on it, in its home directory."""
        words = ["nsenter", "--target", self.leader(), "--all", "env", "-i", "HOME=/root",
                 "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "TERM=dumb", "SYSTEMD_COLORS=0",
                 "RAPCTL_PASSPHRASE_FILE=/root/passphrase", "bash", "-c", f"cd; {line}"]
        return run(words, check=check, stdin=stdin, timeout=timeout)

    def popen(self, line):
        """The same, and it goes on."""
        words = ["nsenter", "--target", self.leader(), "--all", "bash", "-c", f"cd; {line}"]
        return subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def property(self, unit, name):
        return self.run(f"systemctl show --value -p {name} {unit}").stdout.strip()

    def journal(self, unit, lines=20):
        return self.run(f"journalctl -q --no-pager -o cat -n {lines} -u {unit}", check=False).stdout.strip()

    def reboot(self):
        """As typed: `systemctl reboot`. Ends when everything enabled is up again."""
        self.run("systemctl reboot", check=False)
        status = self.supervisor.wait(120)
        if status != REBOOT:
            raise Failed(f"{self.name}: the reboot ended with {status}")
        self.boot()

    def end(self):
        """Stops it, in order if it can, and removes its files."""
        if self.supervisor is not None and self.supervisor.poll() is None:
            self.supervisor.send_signal(signal.SIGTERM)
            try:
                self.supervisor.wait(60)
            except subprocess.TimeoutExpired:
                self.supervisor.kill()
                self.supervisor.wait()
        for folder, _, _ in os.walk(self.cgroup, topdown=False):
            try:
                os.rmdir(folder)
            except OSError:
                pass
        run(["umount", str(self.folder / "root")], check=False)
        shutil.rmtree(self.folder, ignore_errors=True)
