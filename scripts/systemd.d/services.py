#!/usr/bin/env python3
"""The programs as services of a real systemd: installed, enabled, restarted, killed, stopped, rebooted. Called by scripts/systemd.

Owns the steps and the report. Machines are machine.py's affair.
"""

import argparse
import datetime
import json
import re
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from machine import Failed, Machine, run, until

ROOT = Path(__file__).resolve().parent.parent.parent
REPORT = ROOT / "artifacts" / "systemd" / "services.json"
AGENT, CONTROL, DATAPLANE = "rap-node-agent", "rap-control-plane", "rap-dataplane@default"
WATCHDOG = 30


def say(text):
    print(text, file=sys.stderr, flush=True)


def expect(holds, text):
    if not holds:
        raise Failed(text)


def block(page, heading):
    """The commands of the first code block below a line of a page, as typed there."""
    text = (ROOT / page).read_text(encoding="utf-8").split(f"\n{heading}", 1)[1].split("```\n", 2)[1]
    lines = [line.split("  #")[0].strip() for line in text.splitlines()]
    return [line for line in lines if line and not line.startswith("cargo ")]


class Ping:
    """Pings from one machine until `lost` is asked."""

    def __init__(self, machine, address, interval=0.05):
        self.machine, self.interval = machine, interval
        self.process = machine.popen(f"echo $$ >/run/ping.pid; exec ping -q -i {interval} {address}")
        time.sleep(0.5)

    def lost(self):
        self.machine.run("kill -INT $(cat /run/ping.pid)")
        said, _ = self.process.communicate(timeout=20)
        sent, heard = re.search(r"(\d+) packets transmitted, (\d+) received", said).groups()
        expect(int(sent) > 10, f"only {sent} pings")
        return int(sent) - int(heard), int(sent)


class Services:
    """Two machines: `a` has the control plane and a node, `b` another node."""

    def __init__(self, base, work, programs):
        self.programs = programs
        self.a, self.b = Machine(base, work, "a", "10.99.0.1"), Machine(base, work, "b", "10.99.0.2")
        self.both = [self.a, self.b]

    def prepare(self):
        for machine in self.both:
            machine.make()
            home = machine.folder / "root" / "root"
            for path in [*ROOT.glob("node-agent/*/dist"), *ROOT.glob("control-plane/*/dist")]:
                shutil.copytree(path, home / path.relative_to(ROOT))
            (home / "target/release").mkdir(parents=True)
            for program in ("rap-control-plane", "rapctl", "rap-node-agent", "rap-dataplane"):
                shutil.copy2(self.programs / program, home / "target/release")
            (home / "passphrase").write_text(secrets.token_urlsafe(24) + "\n")
            (home / "passphrase").chmod(0o600)
        self.a.connect(self.b)
        for machine in self.both:
            machine.boot()
        return self.a.run("systemctl --version").stdout.splitlines()[0]

    def end(self):
        for machine in self.both:
            machine.end()

    # --- looks

    def shown(self, *words):
        return json.loads(self.a.run(f"rapctl -o json {' '.join(words)}").stdout)

    def pid(self, machine, unit):
        pid = machine.property(unit, "MainPID")
        return pid if pid != "0" else None

    def healthy(self, machine, membership="default"):
        status = json.loads(machine.run(f"rap-node-agent status --json --membership {membership}", check=False).stdout)
        links = any(link["state"] == "established" for link in status["links"])
        return links and status["control"]["connected"] and status["dataplane"]["up"] and not status["degraded"]

    def address(self, name, cluster="prod"):
        nodes = self.shown("node", "list", "--cluster", cluster)["nodes"]
        return next(node["overlay_ipv4"] for node in nodes if node["name"] == name)

    def all_healthy(self, what):
        for machine in self.both:
            until(f"{machine.name} {what}", lambda machine=machine: self.healthy(machine))

    # --- steps

    def install(self):
        lines = block("docs/operate/install.md", "## Build")
        nodes = lines.index("# nodes")
        self.a.run("set -e\n" + "\n".join(lines))
        self.b.run("set -e\n" + "\n".join(lines[nodes:]))
        for machine in self.both:
            expect(machine.property(AGENT, "ActiveState") == "active", machine.journal(AGENT))
        return f"{len(lines)} lines of install.md as typed; the agent is up and waits for a membership"

    def nine_commands(self):
        commands = block("README.md", "## Install it")
        expect(len(commands) == 9, f"README has {len(commands)} commands")
        joins = []
        for line in commands:
            line = line.replace("HOST", self.a.address)
            if line.startswith("rap-node-agent join"):
                token = self.a.run("cat join.token").stdout
                self.b.run("umask 077; cat >join.token", stdin=token)
                joins = [self.background(machine, line) for machine in self.both]
                until("two requests wait", lambda: len(self.shown("node", "list", "--pending", "--cluster", "prod")["pending"]) == 2)
            elif line.startswith("rapctl node approve"):
                self.a.run(line, stdin="y\n")
            else:
                self.a.run(line)
        for finish in joins:
            finish()
        self.all_healthy("is healthy")
        state = self.a.property(CONTROL, "ActiveState")
        expect(state == "active", f"{CONTROL} is {state}")
        return "README as typed, strict; both nodes healthy, each data plane started as a unit by its agent"

    def background(self, machine, line):
        done = {}
        thread = threading.Thread(target=lambda: done.update(result=machine.run(line, check=False, timeout=90)), daemon=True)
        thread.start()

        def finish():
            thread.join(100)
            expect("result" in done and done["result"].returncode == 0, f"{machine.name}: {line}: {done.get('result')}")
        return finish

    def overlay_ping(self):
        self.there = self.address("b")
        ping = until("rapctl ping", lambda: self.shown("ping", "a", "b", "--cluster", "prod"))
        expect(ping["overlay"]["sent"] > 0 and ping["overlay"]["lost"] == 0, f"overlay: {ping['overlay']}")
        self.a.run(f"ping -c 3 -i 0.2 -W 5 {self.there}")
        groups = self.a.run("cat /proc/sys/net/ipv4/ping_group_range").stdout.split()
        addresses = self.a.run("ip -o -6 address show dev rap0").stdout
        expect("fe80" not in addresses, f"a link-local address: {addresses}")
        return f"rapctl ping and the system's ping; ICMP sockets for groups {'-'.join(groups)}, no CAP_NET_RAW; no link-local address"

    def words(self):
        expected = {CONTROL: "2 nodes connected", AGENT: "fresh, connected", DATAPLANE: "1 peers"}
        for unit, word in expected.items():
            until(f"{unit} says {word}", lambda unit=unit, word=word: word in self.a.property(unit, "StatusText"), 30)
        line = json.loads(self.a.run(f"journalctl -q -n 1 -o json -u {AGENT} _COMM=rap-node-agent").stdout)
        expect(line["PRIORITY"] == "6" and not line["MESSAGE"].startswith("<"), f"{line['PRIORITY']}: {line['MESSAGE']}")
        self.a.run("mkdir -p /etc/rap && echo 'log = 1' >/etc/rap/agent.toml")
        self.a.run(f"systemctl restart {AGENT}", check=False)
        stays = until("a configuration fault", lambda: self.a.property(AGENT, "ActiveState") == "failed")
        said = self.a.run(f"journalctl -q -o cat -p err -u {AGENT} _COMM=rap-node-agent").stdout.strip()
        expect(stays and "error[config.invalid]" in said, f"journalctl -p err: {said}")
        self.a.run(f"rm /etc/rap/agent.toml; systemctl start {AGENT}")
        return f"status lines; priorities in the journal; a faulty configuration stays failed: {said.splitlines()[-1][:120]}"

    def agent_restart(self):
        self.all_healthy("is healthy")
        before, ping = self.pid(self.a, DATAPLANE), Ping(self.a, self.there)
        self.a.run(f"systemctl restart {AGENT}")
        until("a is healthy", lambda: self.healthy(self.a))
        time.sleep(3)
        lost, sent = ping.lost()
        expect(lost == 0, f"{lost} of {sent} pings lost")
        expect(self.pid(self.a, DATAPLANE) == before, "the data plane was started anew")
        return f"0 of {sent} pings lost, data plane adopted"

    def dataplane_killed(self):
        before, ping = self.pid(self.a, DATAPLANE), Ping(self.a, self.there)
        self.a.run(f"kill -9 {before}")
        until("another data plane", lambda: self.pid(self.a, DATAPLANE) not in (None, before))
        until("a is healthy", lambda: self.healthy(self.a))
        time.sleep(1)
        lost, sent = ping.lost()
        self.a.run(f"ping -c 3 -i 0.2 -W 5 {self.there}")
        return f"started again by systemd; {lost} of {sent} pings lost, one each {ping.interval} s"

    def agent_killed_often(self):
        killed = 0
        for _ in range(8):
            pid = until("a running agent", lambda: self.pid(self.a, AGENT))
            self.a.run(f"kill -9 {pid}")
            killed += 1
            until("it ended", lambda pid=pid: self.pid(self.a, AGENT) != pid)
        until("a is healthy", lambda: self.healthy(self.a))
        return f"killed {killed} times in a row and started again each time"

    def watchdogs(self):
        stopped = [(self.a, AGENT), (self.a, CONTROL), (self.b, DATAPLANE)]
        before = {unit: self.pid(machine, unit) for machine, unit in stopped}
        for machine, unit in stopped:
            machine.run(f"kill -STOP {before[unit]}")
        at, took = time.monotonic(), {}

        def ended():
            for machine, unit in stopped:
                if unit not in took and self.pid(machine, unit) not in (None, before[unit]):
                    took[unit] = round(time.monotonic() - at, 1)
            return len(took) == len(stopped)
        until("each has another process", ended, WATCHDOG + 15)
        for machine, unit in stopped:
            said = machine.run(f"journalctl -q -o cat -u {unit}").stdout
            expect("Watchdog timeout" in said, f"{unit}: {said[-500:]}")
        self.all_healthy("is healthy again")
        return f"stopped by a signal, ended and started again within {max(took.values())} s: {took}"

    def stop_and_start(self):
        ping = Ping(self.a, self.there)
        self.a.run(f"systemctl stop {AGENT}")
        self.a.run(f"systemctl stop {CONTROL}")
        time.sleep(1)
        lost, sent = ping.lost()
        expect(lost == 0, f"{lost} of {sent} pings lost without agent and control plane")
        self.a.run(f"systemctl stop {DATAPLANE}")
        expect("rap0" not in self.a.run("ip -br link").stdout, "the interface stays")
        self.a.run(f"systemctl start {CONTROL} {AGENT}")
        self.all_healthy("is healthy")
        # With the agent up a stop is a restart, and says that it went well.
        for verb in ("stop", "restart"):
            before = self.pid(self.a, DATAPLANE)
            self.a.run(f"systemctl {verb} {DATAPLANE}")
            until(f"a data plane after {verb}", lambda before=before: self.pid(self.a, DATAPLANE) not in (None, before))
            until("a is healthy", lambda: self.healthy(self.a))
        return f"0 of {sent} pings lost while agent and control plane were stopped; all start again"

    def two_memberships(self):
        self.a.run("rapctl cluster create home --ipv4-pool 100.97.0.0/16")
        self.a.run("rapctl token create --cluster home --uses 2 --ttl 1h --auto-approve --out home.token")
        self.b.run("umask 077; cat >home.token", stdin=self.a.run("cat home.token").stdout)
        for machine in self.both:
            machine.run("rap-node-agent join --membership home --token-file home.token", timeout=90)
        for machine in self.both:
            until(f"{machine.name} is healthy in both", lambda machine=machine: self.healthy(machine) and self.healthy(machine, "home"))
        self.at_home = self.address("b", "home")
        for address in (self.there, self.at_home):
            self.a.run(f"ping -c 3 -i 0.2 -W 5 {address}")
        names = [self.a.run(f"cat /run/rap/{name}/dataplane.env").stdout for name in ("default", "home")]
        ports = [re.findall(r"LISTEN=(\S+)", text) for text in names]
        expect(len({port for pair in ports for port in pair}) == 4, f"ports: {ports}")
        return f"two units, no drop-in; {' and '.join(', '.join(pair) for pair in ports)}"

    def external_database(self):
        """On b, beside its agent: no root, no capability, secrets as credentials."""
        password, folder = secrets.token_urlsafe(16), "control-plane/server/dist"
        roles = "".join(f"CREATE ROLE {name} LOGIN PASSWORD '{password}';" for name in ("rap_owner", "rap_app", "rap_system"))
        self.b.run("cd / && runuser -u postgres -- psql -q", stdin=roles + "\nCREATE DATABASE rap OWNER rap_owner;\n")
        self.b.run("install -d /etc/rap && umask 077 && cat >/etc/rap/database.url",
                   stdin=f"postgres://rap_owner:{password}@127.0.0.1:5432/rap\n")
        self.b.run(f"""set -e
            (umask 077; head -c 32 /dev/urandom | base64 >/etc/rap/secret.key)
            useradd --system --no-create-home --shell /usr/sbin/nologin rap-control
            install -m 0755 target/release/{{rap-control-plane,rapctl}} /usr/bin/
            install -m 0644 {folder}/rap-control-plane.service /etc/systemd/system/
            install -D -m 0644 -t /etc/systemd/system/rap-control-plane.service.d {folder}/rap-control-plane.service.d/external-database.conf
            systemctl daemon-reload
            rapctl root init --out product-root
            RAP_DATABASE_URL_FILE=/etc/rap/database.url SECRET_ENCRYPTION_KEY_B64_FILE=/etc/rap/secret.key \
              rap-control-plane init --listen {self.b.address}:8443 --root-key product-root.pub
            rapctl root sign-activation act-*.req --yes --owner owner@example.com
            systemctl enable --now rap-control-plane
            rapctl login https://{self.b.address}:8443 --activate act-*.manifest
            rapctl cluster create other
            systemctl restart rap-control-plane""")
        user = self.b.run(f"stat -c %U /proc/{self.pid(self.b, CONTROL)}").stdout.strip()
        expect(user == "rap-control", f"it runs as {user}")
        owner = self.b.run("stat -c %U /run/rap /run/rap/agent.sock").stdout.split()
        expect(owner == ["root", "root"], f"the agent's run-time files belong to {owner}")
        self.b.run("systemd-run --quiet --pipe --wait -p User=rap-control -p LoadCredential=RAP_DATABASE_URL:/etc/rap/database.url"
                   " -p LoadCredential=SECRET_ENCRYPTION_KEY_B64:/etc/rap/secret.key rap-control-plane check")
        return "drop-in external-database.conf: as rap-control, no capability, URL and key as credentials"

    def backup_unit(self):
        """The one of backup.md, as it stands there."""
        lines = block("docs/operate/backup.md", "A timer, ")
        self.a.run(f"cat >{lines[0].removeprefix('# ')}", stdin="\n".join(lines[1:]) + "\n")
        self.a.run("systemctl daemon-reload && systemctl start rap-backup")
        made = self.a.run("ls /var/backups/rap").stdout.split()
        expect(len(made) == 1, f"backups: {made}")
        self.a.run(f"rap-control-plane backup verify /var/backups/rap/{made[0]}")
        return f"{made[0]} made by the unit of backup.md and verified, while the control plane serves"

    def reboot(self):
        for machine in self.both:
            machine.reboot()
        for machine in self.both:
            until(f"{machine.name} is healthy in both", lambda machine=machine: self.healthy(machine) and self.healthy(machine, "home"))
        for address in (self.there, self.at_home):
            self.a.run(f"ping -c 3 -i 0.2 -W 5 {address}")
        until("b's control plane answers", lambda: self.b.run("rapctl status", check=False).returncode == 0)
        failed = {machine.name: machine.run("systemctl --failed --plain --no-legend").stdout for machine in self.both}
        expect(not any("rap-" in text for text in failed.values()), f"failed units: {failed}")
        return "both machines: every unit, both overlays and both control planes by themselves"

    def leave(self):
        unit = "rap-dataplane@home"
        self.a.run("rap-node-agent leave --membership home")
        until("its data plane ended", lambda: self.a.property(unit, "ActiveState") == "inactive", 20)
        time.sleep(3)
        state = self.a.property(unit, "ActiveState")
        expect(state == "inactive", f"{unit} is {state}, {self.a.journal(unit)}")
        expect("rap1" not in self.a.run("ip -br link").stdout, "its interface stays")
        expect(not self.a.run("ls /var/lib/rap/agent").stdout.count("home"), "its directory stays")
        expect(self.healthy(self.a), "the other membership suffers")
        return "the unit of the membership ends and is not started again; the other one goes on"

    def exposure(self):
        rated = {}
        for machine, units in ((self.a, [AGENT, DATAPLANE, CONTROL]), (self.b, [CONTROL])):
            for unit in units:
                said = machine.run(f"systemd-analyze security --no-pager {unit}").stdout
                rated[f"{machine.name} {unit}"] = float(re.search(r"Overall exposure level for \S+: ([\d.]+)", said)[1])
        return ", ".join(f"{unit} {level}" for unit, level in rated.items())

    STEPS = ["install", "nine_commands", "overlay_ping", "words", "agent_restart", "dataplane_killed", "agent_killed_often", "watchdogs",
             "stop_and_start", "two_memberships", "external_database", "backup_unit", "reboot", "leave", "exposure"]


def keep_journals(services, folder):
    for machine in services.both:
        try:
            text = machine.run("journalctl -q --no-pager -o short-precise", check=False).stdout
        except (Failed, OSError, subprocess.SubprocessError):
            continue
        (folder / f"{machine.name}.journal").write_text(text, encoding="utf-8")
    say(f"-- the journals are in {folder}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--programs", type=Path, required=True)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    services = Services(options.base, options.work, options.programs)
    started, begun = datetime.datetime.now(datetime.timezone.utc), time.monotonic()
    steps, failed = [], False
    try:
        try:
            version = services.prepare()
        except Failed as error:
            say(f"no machine with a systemd of its own can be started here: {error}")
            return 3
        for name in Services.STEPS:
            if failed:
                steps.append({"id": name, "ok": False, "ms": 0, "note": "not reached"})
                continue
            at = time.monotonic()
            try:
                note = getattr(services, name)()
            except (Failed, KeyError, TypeError, ValueError, OSError, subprocess.SubprocessError) as error:
                failed, note = True, f"{type(error).__name__}: {error}"
            step = {"id": name, "ok": not failed, "ms": round((time.monotonic() - at) * 1000), "note": note}
            steps.append(step)
            say(f"{'ok    ' if step['ok'] else 'FAILED'} {name:<18} {step['ms']:>6} ms  {note}")
        if failed:
            keep_journals(services, options.work)
    finally:
        services.end()
    commit = run(["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=40"], check=False).stdout.strip()
    document = {
        "schema": "rap.systemd.v1", "name": "services", "commit": commit or "unknown", "ok": not failed,
        "started_at": started.isoformat(timespec="seconds"), "ms": round((time.monotonic() - begun) * 1000),
        "systemd": version, "steps": steps,
    }
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    if options.json:
        print(json.dumps(document))
    say(f"{sum(step['ok'] for step in steps)} of {len(steps)} steps passed; {REPORT.relative_to(ROOT)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
