"""A Kubernetes of one node, in the network and PID namespace that scripts/test-kubernetes has made.

Every address of nodes, pods and services is in that namespace; every process ends with it.
"""

import io
import json
import os
import pathlib
import pwd
import hashlib
import shutil
import subprocess
import tarfile
import threading
import time

NODE = "10.200.0.1"
SERVER = f"https://{NODE}:6443"
TOKEN = "the-operator-of-this-test"

KUBELET = f"""
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
failCgroupV1: false
failSwapOn: false
cgroupDriver: cgroupfs
cgroupsPerQOS: false
enforceNodeAllocatable: []
authentication: {{anonymous: {{enabled: true}}, webhook: {{enabled: false}}}}
authorization: {{mode: AlwaysAllow}}
containerRuntimeEndpoint: unix://{{work}}/containerd.sock
clusterDNS: [{NODE}]
clusterDomain: cluster.local
evictionHard: {{imagefs.available: 1%, nodefs.available: 1%, memory.available: 50Mi}}
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
"""

CONTAINERD = """
version = 2
root = "{work}/containerd"
state = "{work}/containerd-state"
[grpc]
address = "{work}/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "latchkey.test/pause:1"
# Without CAP_SYS_RESOURCE a sandbox may not lower its score.
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "{work}/cni"
"""

CNI = {
    "cniVersion": "0.4.0",
    "name": "pods",
    "plugins": [
        {
            "type": "bridge",
            "bridge": "pods",
            "isGateway": True,
            "hairpinMode": True,
            "ipam": {
                "type": "host-local",
                "ranges": [[{"subnet": "10.244.0.0/24"}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        },
        {"type": "loopback"},
    ],
}

PROXY = """
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clusterCIDR: 10.244.0.0/16
hostnameOverride: node
clientConnection: {{kubeconfig: {work}/kubeconfig}}
conntrack: {{maxPerCore: 0}}
"""


def run(*command, check=True, **options):
    done = subprocess.run(
        [str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options
    )
    if check and done.returncode:
        raise AssertionError(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stdout[-4000:]}")
    return done.stdout


def until(condition, seconds, what):
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what() if callable(what) else what}")
        time.sleep(0.2)
    return value


def image(file, name, programs, entrypoint):
    """Writes an image of these programs and the libraries that they need."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as archive:
        wanted = {}
        for target, program in programs.items():
            wanted[target] = program
            for word in run("ldd", program, check=False).split():
                if word.startswith("/") and pathlib.Path(word).exists():
                    wanted[word] = word
        for target, source in wanted.items():
            archive.add(os.path.realpath(source), target.lstrip("/"))
    data = layer.getvalue()
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Entrypoint": entrypoint, "User": "65532:65532", "Env": entrypoint_env(name)},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(data).hexdigest()}"]},
        }
    ).encode()
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    with tarfile.open(file, "w") as archive:
        for part, content in [
            ("config.json", config),
            ("layer.tar", data),
            ("manifest.json", json.dumps(manifest).encode()),
        ]:
            entry = tarfile.TarInfo(part)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


def entrypoint_env(name):
    """As the stages of the Dockerfile."""
    port = "9464" if "auth" in name else "9465"
    return ["PATH=/usr/local/bin:/bin", f"ADMIN_ADDR=0.0.0.0:{port}"]


class Cluster:
    def __init__(self, work, postgres_bin):
        self.work, self.postgres_bin = work, pathlib.Path(postgres_bin)
        self.processes = {}
        os.environ["KUBECONFIG"] = str(work / "kubeconfig")

    def spawn(self, name, *command, **options):
        with open(self.work / f"{name}.log", "ab") as log:
            process = subprocess.Popen(
                [str(part) for part in command], stdin=subprocess.DEVNULL, stdout=log, stderr=log, **options
            )
        self.processes[name] = process
        return process

    def log(self, name, count=15):
        return "\n".join((self.work / f"{name}.log").read_text(errors="replace").splitlines()[-count:])

    def start(self):
        work = self.work
        run("ip", "link", "set", "lo", "up")
        run("ip", "link", "add", "node", "type", "veth", "peer", "name", "outside")
        run("ip", "link", "set", "outside", "up")
        run("ip", "address", "add", f"{NODE}/24", "dev", "node")
        run("ip", "link", "set", "node", "up")
        run("ip", "route", "add", "default", "dev", "node")
        pathlib.Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
        self.postgres()
        run("openssl", "genrsa", "-out", work / "sa.key", "2048")
        run("openssl", "rsa", "-in", work / "sa.key", "-pubout", "-out", work / "sa.pub")
        (work / "tokens").write_text(f"{TOKEN},operator,operator,system:masters\n")
        (work / "kubeconfig").write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "clusters": [{"name": "it", "cluster": {"server": SERVER, "insecure-skip-tls-verify": True}}],
                    "users": [{"name": "it", "user": {"token": TOKEN}}],
                    "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
                    "current-context": "it",
                }
            )
        )
        self.spawn("etcd", "etcd", "--data-dir", work / "etcd", "--unsafe-no-fsync", "--log-level=warn")
        self.spawn(
            "kube-apiserver", "kube-apiserver", "--etcd-servers=http://127.0.0.1:2379",
            "--service-cluster-ip-range=10.96.0.0/16", "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={work}/sa.pub", f"--service-account-signing-key-file={work}/sa.key",
            f"--cert-dir={work}/certificates", f"--bind-address={NODE}", f"--advertise-address={NODE}",
            f"--token-auth-file={work}/tokens", "--authorization-mode=AlwaysAllow", "--secure-port=6443",
            "--kubelet-preferred-address-types=InternalIP",
        )
        until(lambda: "ok" == run("kubectl", "get", "--raw", "/readyz", check=False).strip(), 90, lambda: self.log("kube-apiserver"))
        self.spawn(
            "kube-controller-manager", "kube-controller-manager", f"--kubeconfig={work}/kubeconfig",
            f"--service-account-private-key-file={work}/sa.key", "--leader-elect=false",
        )
        self.spawn("kube-scheduler", "kube-scheduler", f"--kubeconfig={work}/kubeconfig", "--leader-elect=false")
        self.node()
        until(lambda: " Ready" in run("kubectl", "get", "nodes", check=False), 90, lambda: self.log("kubelet") + self.log("containerd"))
        self.names()

    def node(self):
        work = self.work
        (work / "cni").mkdir(exist_ok=True)
        (work / "cni/pods.conflist").write_text(json.dumps(CNI))
        (work / "containerd.toml").write_text(CONTAINERD.format(work=work))
        (work / "kubelet.yaml").write_text(KUBELET.replace("{work}", str(work)))
        (work / "proxy.yaml").write_text(PROXY.format(work=work))
        (work / "kubelet").mkdir(exist_ok=True)
        self.spawn("containerd", "containerd", "--config", work / "containerd.toml")
        until(lambda: (work / "containerd.sock").exists(), 20, lambda: self.log("containerd"))
        image(work / "pause.tar", "latchkey.test/pause:1", {"/bin/busybox": "/bin/busybox"}, ["/bin/busybox", "sleep", "1000000"])
        self.load(work / "pause.tar")
        self.spawn(
            "kubelet", "kubelet", f"--kubeconfig={work}/kubeconfig", f"--config={work}/kubelet.yaml",
            f"--root-dir={work}/kubelet", "--hostname-override=node", f"--node-ip={NODE}",
        )
        self.spawn("kube-proxy", "kube-proxy", f"--config={work}/proxy.yaml")

    def load(self, file):
        until(
            lambda: "unpacking" in (out := run("ctr", "--address", self.work / "containerd.sock", "--namespace", "k8s.io", "images", "import", file, check=False)) or "saved" in out,
            20, lambda: self.log("containerd"),
        )

    def postgres(self):
        """A server for both databases. It refuses to run as root."""
        user = pwd.getpwnam("nobody")
        data = self.work / "postgres"
        data.mkdir()
        os.chown(data, user.pw_uid, user.pw_gid)
        (self.work / "password").write_text("secret")
        options = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": [], "cwd": "/"}
        run(self.postgres_bin / "initdb", "-D", data, "-U", "postgres", "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C", **options)
        with open(data / "pg_hba.conf", "a") as file:
            file.write("host all all 10.0.0.0/8 trust\n")
        self.spawn(
            "postgres", self.postgres_bin / "postgres", "-D", data, "-c", f"listen_addresses={NODE}",
            "-c", f"unix_socket_directories={data}", "-c", "max_connections=200", "-c", "fsync=off", **options,
        )
        for name in ("auth", "users"):
            until(
                lambda: run("psql", "-h", NODE, "-U", "postgres", "-c", f"CREATE DATABASE {name}", check=False).startswith("CREATE")
                , 20, lambda: self.log("postgres"),
            )

    def names(self):
        """The names of services, as a cluster's DNS has them: dnsmasq with a list that follows the API."""
        hosts = self.work / "hosts"
        hosts.write_text("")
        dns = self.spawn(
            "dnsmasq", "dnsmasq", "--keep-in-foreground", "--no-resolv", "--no-hosts", f"--addn-hosts={hosts}",
            f"--listen-address={NODE}", "--bind-interfaces", "--user=root", "--local=/cluster.local/", "--local-ttl=1",
        )

        def follow():
            while True:
                try:
                    objects = json.loads(run("kubectl", "get", "services,endpointslices", "-A", "-o", "json"))["items"]
                except (AssertionError, ValueError):
                    time.sleep(0.5)
                    continue
                lines = set()
                for item in objects:
                    meta = item["metadata"]
                    where = f"{meta['namespace']}.svc.cluster.local"
                    if item["kind"] == "Service" and item["spec"].get("clusterIP") not in (None, "None"):
                        lines.add(f"{item['spec']['clusterIP']} {meta['name']}.{where}")
                    if item["kind"] == "EndpointSlice":
                        name = meta["labels"].get("kubernetes.io/service-name", "")
                        headless = "service.kubernetes.io/headless" in meta["labels"]
                        for end in item.get("endpoints") or []:
                            if headless and end["conditions"].get("ready"):
                                lines |= {f"{address} {name}.{where}" for address in end["addresses"]}
                text = "".join(sorted(line + "\n" for line in lines))
                if text != hosts.read_text():
                    hosts.write_text(text)
                    dns.send_signal(1)
                time.sleep(0.5)

        threading.Thread(target=follow, daemon=True).start()
