#!/usr/bin/env python3
"""One life of an installation in containers, step by step, and the report of it. Called by scripts/smoke."""

import argparse
import base64
import datetime
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
ARTIFACTS = ROOT / "artifacts" / "smoke"
PROJECT = "rap-smoke"
AGENTS = ["agent-1", "agent-2", "agent-3"]
CONTROLS = ["control-1", "control-2"]
DEADLINE = 90


class Failed(Exception):
    """A step did not do what it promises."""


def say(text):
    print(text, file=sys.stderr, flush=True)


def run(arguments, *, check=True, stdin=None, timeout=DEADLINE, variables=None):
    """Runs a program; what it printed goes into the error, never its input."""
    environment = {**os.environ, **(variables or {})}
    try:
        done = subprocess.run(arguments, input=stdin, capture_output=True, text=True, timeout=timeout,
                              env=environment, cwd=ROOT)
    except subprocess.TimeoutExpired:
        raise Failed(f"no end within {timeout} s: {' '.join(arguments)}") from None
    if check and done.returncode != 0:
        said = (done.stderr or done.stdout).strip()[-1500:]
        raise Failed(f"exit {done.returncode}: {' '.join(arguments)}: {said}")
    return done


def until(what, look, timeout=DEADLINE):
    """Asks until the answer is neither None nor a failure; `what` names what was waited for."""
    end, last = time.monotonic() + timeout, None
    while time.monotonic() < end:
        try:
            found = look()
            if found is not None and found is not False:
                return found
        except (Failed, KeyError, json.JSONDecodeError) as error:
            last = error
        time.sleep(0.25)
    raise Failed(f"{what}: not within {timeout} s" + (f"; last: {last}" if last else ""))


def expect(holds, text):
    if not holds:
        raise Failed(text)


class Smoke:
    """The containers and what the steps learn."""

    def __init__(self, target, image):
        self.image, self.target = image, target
        self.secrets, self.offline = target / "secrets", target / "offline"
        plugin = run(["docker", "compose", "version"], check=False).returncode == 0
        self.compose_words = ["docker", "compose"] if plugin else ["docker-compose"]
        self.variables = {"RAP_IMAGE": image, "RAP_SMOKE_SECRETS": str(self.secrets),
                          "COMPOSE_PROJECT_NAME": PROJECT}
        self.names = {}

    # --- engine

    def compose(self, *words, **options):
        return run([*self.compose_words, "-f", str(ROOT / "docker-compose.yml"), *words],
                   variables=self.variables, **options)

    def container(self, service):
        if service not in self.names:
            found = self.compose("ps", "-q", service).stdout.split()
            expect(found, f"{service} has no container")
            self.names[service] = found[0]
        return self.names[service]

    def inside(self, service, *words, **options):
        flags = ["-i"] if options.get("stdin") is not None else []
        return run(["docker", "exec", *flags, self.container(service), *words], **options)

    def document(self, service, *words, **options):
        return json.loads(self.inside(service, *words, **options).stdout)

    def healthy(self, *services):
        def look():
            for service in services:
                shown = run(["docker", "inspect", "--format", "{{.State.Health.Status}}", self.container(service)])
                expect(shown.stdout.strip() == "healthy", f"{service} is {shown.stdout.strip()}")
            return True
        until(f"{', '.join(services)} healthy", look)

    def start(self, *services):
        self.compose("up", "-d", "--no-deps", *services, timeout=180)

    def down(self):
        self.compose("down", "-v", "--remove-orphans", "-t", "5", check=False, timeout=180)

    def rapctl(self, *words, **options):
        return self.inside("operator", "rapctl", *words, **options)

    def shown(self, *words):
        return json.loads(self.rapctl("-o", "json", *words).stdout)

    def status(self, agent):
        # Degraded is an answer, too.
        return json.loads(self.inside(agent, "rap-node-agent", "status", "--json", check=False).stdout)

    def off_the_network(self, *words, folder):
        """A machine that was never connected to anything."""
        return run(["docker", "run", "--rm", "--network", "none", "--cap-drop", "ALL", "-v", f"{folder}:/offline",
                    "-w", "/offline", "-e", "RAPCTL_PASSPHRASE_FILE=/offline/passphrase", self.image, *words])

    # --- what exists before the first command

    def prepare(self):
        self.down()
        self.wipe()
        for folder in (self.secrets, self.offline):
            folder.mkdir(parents=True, mode=0o700)
        password, passphrase = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
        secret_key = base64.b64encode(secrets.token_bytes(32)).decode()
        url = f"postgres://rap_owner:{password}@postgres:5432/rap"
        for name, text in [("database_password", password), ("database_url", url), ("secret_key", secret_key),
                           ("passphrase", passphrase), ("product_root", "")]:
            self.keep(self.secrets / name, text)
        self.keep(self.offline / "passphrase", passphrase)

    def keep(self, path, text):
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            file.write(text + "\n" if text else "")

    def own_secrets(self):
        """Each secret belongs to the account that reads it; only root of a container can give it away."""
        script = ("chown postgres /s/database_password && chown rap /s/database_url /s/secret_key"
                  " && chown root /s/passphrase && chmod 0400 /s/* && chmod 0444 /s/product_root && chmod 0711 /s")
        run(["docker", "run", "--rm", "--network", "none", "-v", f"{self.secrets}:/s", self.image, "sh", "-c", script])

    def wipe(self):
        """Files that containers wrote may belong to their root."""
        if any(folder.exists() for folder in (self.secrets, self.offline)) and os.geteuid() != 0:
            run(["docker", "run", "--rm", "--network", "none", "-v", f"{self.target}:/t", self.image,
                 "rm", "-rf", "/t/secrets", "/t/offline"], check=False)
        for folder in (self.secrets, self.offline):
            shutil.rmtree(folder, ignore_errors=True)

    # --- steps

    def fresh_install(self):
        self.off_the_network("rapctl", "root", "init", "--out", "product-root", folder=self.offline)
        shutil.copy(self.offline / "product-root.pub", self.secrets / "product_root")
        self.own_secrets()
        self.start("postgres", "operator")
        self.healthy("postgres")
        made = [json.loads(self.compose("run", "--rm", "--no-deps", "-T", control, "rap-control-plane", "init", "--json",
                                        timeout=120).stdout.strip().splitlines()[-1]) for control in CONTROLS]
        expect(made[0]["mode"] == "strict", "not in strict mode")
        expect(made[0]["installation_id"] == made[1]["installation_id"], "two replicas, two installations")
        request = self.compose("run", "--rm", "--no-deps", "-T", CONTROLS[0], "base64", "-w0",
                               made[0]["activation_request"]).stdout.strip().splitlines()[-1]
        (self.offline / "act.req").write_bytes(base64.b64decode(request))
        self.start(*CONTROLS)
        self.healthy(*CONTROLS)
        return f"installation {made[0]['installation_id']}, strict, two replicas on one database"

    def first_owner(self):
        self.off_the_network("rapctl", "root", "sign-activation", "act.req", "--yes", "--owner", "owner@example.com",
                             folder=self.offline)
        for name in ("act.manifest", "act.owner.key"):
            found = sorted(self.offline.glob(f"*{name.removeprefix('act')}"))
            expect(found, f"sign-activation made no {name}")
            run(["docker", "cp", str(found[0]), f"{self.container('operator')}:/desk/{name}"])
        self.inside("operator", "chown", "-R", "0:0", "/desk", check=False)
        before = self.rapctl("login", "https://control-1:8443", "--key", "act.owner.key", check=False)
        expect(before.returncode != 0, "an owner before the activation")
        self.rapctl("login", "https://control-1:8443", "--activate", "act.manifest", "--root", "/run/secrets/product_root",
                    "--key", "act.owner.key")
        expect(self.shown("status")["clusters"] == [], "clusters before the first one")
        return f"owner by an activation signed off the network; without it: {code(before)}"

    def cluster(self):
        self.rapctl("cluster", "create", "prod", "--fresh-for", "20s", "--refresh-every", "5s")
        shown = self.shown("cluster", "show", "prod")
        self.authority = shown["authority"]["fingerprint"]
        return f"authority {self.authority}"

    def signed_token(self):
        self.rapctl("token", "create", "--cluster", "prod", "--uses", "3", "--ttl", "1h",
                    "--out", "/tokens/join.token")
        self.start(*AGENTS, "far-end")
        token = self.inside("operator", "cat", "/tokens/join.token").stdout.strip()
        # A letter of the signed part, well before the secret.
        place = len(token) // 3
        other = token[:place] + ("A" if token[place] != "A" else "B") + token[place + 1:]
        refused = self.inside("agent-1", "rap-node-agent", "join", "--json", "--token-file", "/dev/stdin",
                              stdin=other + "\n", check=False)
        expect(refused.returncode not in (0, 1), f"an altered token: exit {refused.returncode}")
        return f"three uses, one hour; one letter altered: {code(refused)}"

    def real_enrollment(self):
        self.joins = {}
        def join(agent):
            words = ["rap-node-agent", "join", "--json", "--token-file", "/tokens/join.token"]
            try:
                self.joins[agent] = self.inside(agent, *words, check=False, timeout=180)
            except Failed as error:
                self.joins[agent] = error
        self.threads = [threading.Thread(target=join, args=(agent,), daemon=True) for agent in AGENTS]
        for thread in self.threads:
            thread.start()
        def pending():
            found = self.shown("node", "list", "--pending", "--cluster", "prod")["pending"]
            return found if len(found) == len(AGENTS) else None
        found = until("three requests wait", pending)
        expect(not self.joins, f"a join ended before it was approved: {self.joins}")
        return ", ".join(f"{request['name']} {request['node_fingerprint'][:19]}" for request in found)

    def approval(self):
        approved = self.shown("--yes", "node", "approve", "--all-pending", "--cluster", "prod")["nodes"]
        expect(sorted(node["name"] for node in approved) == AGENTS, f"approved: {approved}")
        return f"{len(approved)} approved by their fingerprints"

    def bootstrap_polling(self):
        for thread in self.threads:
            thread.join(DEADLINE)
        for agent in AGENTS:
            done = self.joins.get(agent)
            expect(done is not None, f"{agent} still waits")
            expect(not isinstance(done, Failed), str(done))
            expect(done.returncode == 0, f"{agent}: {done.stderr.strip()[-500:]}")
        for agent in AGENTS:
            until(f"{agent} is connected", lambda: self.connected(agent))
        return "each join polled its signed contract, verified it and loaded the running agent"

    def pin_persistence(self):
        before = until("a snapshot", lambda: self.with_snapshot("agent-1"))
        file = "/var/lib/rap/agent/default/identity.json"
        run(["docker", "restart", "-t", "10", self.container("agent-1")])
        after = until("agent-1 after its restart", lambda: self.with_snapshot("agent-1"))
        for pin in ("node_id", "cluster_authority_public_key", "authority_fingerprint", "pinned_key_ids"):
            expect(before[pin] == after[pin], f"{pin} changed from {before[pin]} to {after[pin]}")
        expect(after["authority_fingerprint"] == self.authority, "not the authority that the operator was shown")
        kept = self.inside("agent-1", "cat", file).stdout
        expect(before["node_id"] in kept, f"{file} does not name the node")
        return f"container restarted: the same node, the same {len(after['pinned_key_ids'])} pinned keys"

    def heartbeat(self):
        def seen():
            nodes = self.shown("node", "list", "--cluster", "prod")["nodes"]
            expect(len(nodes) == len(AGENTS) and all(node["connected"] for node in nodes), "not all connected")
            return {node["name"]: node["last_seen_at_ms"] for node in nodes}
        first = until("three nodes connected", seen)
        def later():
            now = seen()
            return now if all(now[name] > first[name] for name in first) else None
        second = until("every node was heard again", later)
        return f"heard again after {max(second[name] - first[name] for name in first)} ms"

    def verified_snapshot(self):
        root = self.inside("operator", "cat", "/run/secrets/product_root").stdout
        orders = []
        for agent in AGENTS:
            document = self.document(agent, "rap-node-agent", "snapshot", "verify", "--json", "--root", "/dev/stdin",
                                     stdin=root)
            expect(document["verified"] and document["product_root_checked"], f"{agent}: {document}")
            orders.append(agent)
        self.rapctl("node", "export", "agent-2", "--cluster", "prod", "--out", "agent-2.export")
        run(["docker", "cp", f"{self.container('operator')}:/desk/agent-2.export", str(self.offline)])
        export = self.offline / "agent-2.export"
        self.off_the_network("rapctl", "verify", "agent-2.export", "--root", "product-root.pub", folder=self.offline)
        altered = bytearray(export.read_bytes())
        altered[len(altered) // 2] ^= 1
        (self.offline / "altered.export").write_bytes(altered)
        try:
            self.off_the_network("rapctl", "verify", "altered.export", "--root", "product-root.pub", folder=self.offline)
        except Failed as error:
            expect("exit 7" in str(error), str(error))
        else:
            raise Failed("an altered export verified")
        return f"{len(orders)} agents from the Product Root down; an export also with no network; one bit altered: exit 7"

    def overlay_ping(self):
        ping = until("rapctl ping is answered", lambda: self.shown("ping", "agent-1", "agent-2", "--cluster", "prod"))
        expect(ping["overlay"]["sent"] > ping["overlay"]["lost"], f"overlay: {ping['overlay']}")
        nodes = self.shown("node", "list", "--cluster", "prod")["nodes"]
        self.addresses = {node["name"]: (node["overlay_ipv4"], node["overlay_ipv6"]) for node in nodes}
        for address in self.addresses["agent-2"]:
            self.inside("agent-1", "ping", "-c", "3", "-i", "0.2", "-W", "5", address)
        rtt = ping["overlay"]["rtt_ms_median"]
        return f"median {rtt} ms over the overlay, and ping through the TUN device to {' and '.join(self.addresses['agent-2'])}"

    def far_end_echo(self):
        said = secrets.token_hex(512)
        for address in self.addresses["agent-3"]:
            target = f"TCP6:[{address}]:7000" if ":" in address else f"TCP4:{address}:7000"
            words = ["socat", "-t", "10", "-", target]
            heard = until(f"an echo from {address}", lambda words=words: self.inside("agent-1", *words, stdin=said + "\n").stdout)
            expect(heard.strip() == said, "the echo says something else")
        return "1 KiB over TCP and back from behind agent-3, on both families"

    def replica_lost(self):
        run(["docker", "stop", "-t", "10", self.container("control-1")])
        for agent in AGENTS:
            until(f"{agent} moved to control-2", lambda: self.connected(agent, "control-2"))
        self.inside("agent-1", "ping", "-c", "3", "-i", "0.2", "-W", "5", self.addresses["agent-2"][0])
        run(["docker", "start", self.container("control-1")])
        self.healthy("control-1")
        return "control-1 stopped: every agent went on at control-2, and the overlay did not notice"

    def backup_restore(self):
        create = ["rap-control-plane", "backup", "create", "--json", "--out", "/var/lib/rap/control-plane"]
        made = json.loads(self.inside("control-1", *create).stdout.strip().splitlines()[-1])
        before = {agent: self.with_snapshot(agent)["active"] for agent in AGENTS}
        self.rapctl("node", "update", "agent-2", "--cluster", "prod", "--tags", "after-the-backup")
        for agent in AGENTS:
            until(f"{agent} has what came after", lambda agent=agent: self.beyond(agent, before[agent]))
        lost = time.monotonic()
        run(["docker", "stop", "-t", "10", *(self.container(control) for control in CONTROLS)])
        self.compose("rm", "-s", "-f", "postgres")
        self.names.pop("postgres")
        run(["docker", "volume", "rm", f"{PROJECT}_postgres"])
        self.start("postgres")
        self.healthy("postgres")
        restore = ["rap-control-plane", "backup", "restore", "--json", made["file"]]
        back = self.compose("run", "--rm", "--no-deps", "-T", "control-1", *restore, timeout=180)
        back = json.loads(back.stdout.strip().splitlines()[-1])
        incarnation = back["clusters"][0]["incarnation"]
        run(["docker", "start", *(self.container(control) for control in CONTROLS)])
        self.healthy(*CONTROLS)
        for agent in AGENTS:
            def renewed(agent=agent):
                status = self.with_snapshot(agent)
                return status if status and status["active"]["incarnation"] == incarnation else None
            until(f"{agent} accepts the new incarnation", renewed)
        ms = round((time.monotonic() - lost) * 1000)
        self.inside("agent-1", "ping", "-c", "3", "-i", "0.2", "-W", "5", self.addresses["agent-2"][0])
        self.rapctl("login", "https://control-1:8443", "--key", "act.owner.key")
        tags = self.shown("node", "show", "agent-2", "--cluster", "prod")["tags"]
        expect(tags == [], f"rows of after the backup: {tags}")
        return f"{made['rows']} rows, {made['bytes']} bytes; every agent in incarnation {incarnation} {ms} ms after the loss"

    # --- looks

    def beyond(self, agent, active):
        now = self.with_snapshot(agent)
        return now and now["active"]["sequence"] > active["sequence"] or None

    def connected(self, agent, at=""):
        control = self.status(agent)["control"]
        return control["connected"] and at in (control["url"] or "") or None

    def with_snapshot(self, agent):
        status = self.status(agent)
        return status if status["active"] and status["control"]["connected"] else None

    STEPS = ["fresh_install", "first_owner", "cluster", "signed_token", "real_enrollment", "approval", "bootstrap_polling",
             "pin_persistence", "heartbeat", "verified_snapshot", "overlay_ping", "far_end_echo", "replica_lost", "backup_restore"]


def code(done):
    """The reason code that a refused command printed."""
    text = done.stderr
    if '"code":"' in text:
        return f"{text.split(chr(34) + 'code' + chr(34) + ':' + chr(34))[1].split(chr(34))[0]}, exit {done.returncode}"
    if "error[" in text:
        return f"{text.split('error[')[1].split(']')[0]}, exit {done.returncode}"
    return f"exit {done.returncode}"


def commit():
    done = run(["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=40"], check=False)
    return done.stdout.strip() or "unknown"


def logs(smoke):
    text = smoke.compose("logs", "--no-color", "--tail", "200", check=False).stdout
    path = ARTIFACTS / "containers.log"
    path.write_text(text, encoding="utf-8")
    say(f"-- what the containers said last is in {path.relative_to(ROOT)}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--target", type=Path, required=True)
    parser.add_argument("--engine", required=True)
    parser.add_argument("--image", required=True)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    ARTIFACTS.mkdir(parents=True, exist_ok=True)
    smoke = Smoke(options.target, options.image)
    started, begun = datetime.datetime.now(datetime.timezone.utc), time.monotonic()
    steps, failed = [], False
    try:
        smoke.prepare()
        for name in Smoke.STEPS:
            if failed:
                steps.append({"id": name, "ok": False, "ms": 0, "note": "not reached"})
                continue
            at = time.monotonic()
            try:
                note = getattr(smoke, name)()
            except (Failed, KeyError, json.JSONDecodeError, OSError) as error:
                failed, note = True, f"{type(error).__name__}: {error}"
            step = {"id": name, "ok": not failed, "ms": round((time.monotonic() - at) * 1000), "note": note}
            steps.append(step)
            say(f"{'ok    ' if step['ok'] else 'FAILED'} {name:<18} {step['ms']:>6} ms  {note}")
        if failed:
            logs(smoke)
    finally:
        if not options.keep:
            smoke.down()
            smoke.wipe()
    document = {
        "schema": "rap.smoke.v1", "name": "lifecycle", "commit": commit(), "ok": not failed,
        "started_at": started.isoformat(timespec="seconds"), "ms": round((time.monotonic() - begun) * 1000),
        "engine": options.engine, "kernel": os.uname().release, "steps": steps,
    }
    (ARTIFACTS / "lifecycle.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    if options.json:
        print(json.dumps(document))
    say(f"{sum(step['ok'] for step in steps)} of {len(steps)} steps passed; artifacts/smoke/lifecycle.json")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
