"""The measuring part of Benchmarks/serve, which starts the servers that this asks."""

import argparse
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import time
import urllib.request

TICKS = os.sysconf("SC_CLK_TCK")
ACCEPT = {"Accept": "application/vnd.oci.image.manifest.v1+json"}


def cpu_seconds(pid):
    """Of all threads, user and system (proc(5), fields 14 and 15)."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def resident_megabytes(pid):
    with open(f"/proc/{pid}/status") as file:
        return int(re.search(r"VmRSS:\s+(\d+)", file.read())[1]) / 1024


def download(address, name, layers):
    """Six at a time, thrown away; gives MB a second."""
    start = time.monotonic()
    clients = [
        subprocess.Popen(
            ["curl", "-sf", "-o", "/dev/null", f"http://{address}/v2/{name}/blobs/{layer['digest']}"]
        )
        for layer in layers
    ]
    if any(client.wait() for client in clients):
        sys.exit(f"{address}: a blob did not come")
    return sum(layer["size"] for layer in layers) / 1e6 / (time.monotonic() - start)


def small(address, name, tag):
    """Manifests a second, 16 connections for three seconds."""
    output = subprocess.run(
        ["wrk", "-t1", "-c16", "-d3s", "-H", f"Accept: {ACCEPT['Accept']}",
         f"http://{address}/v2/{name}/manifests/{tag}"],
        check=True, stdout=subprocess.PIPE, text=True,
    ).stdout
    if "Non-2xx" in output:
        sys.exit(f"{address}: not all manifests came")
    return float(re.search(r"Requests/sec:\s+([\d.]+)", output)[1])


def main():
    parser = argparse.ArgumentParser()
    for option in ("stock", "own", "name", "tag"):
        parser.add_argument(f"--{option}", required=True)
    for option in ("stock-pid", "own-pid", "rounds"):
        parser.add_argument(f"--{option}", type=int, required=True)
    options = parser.parse_args()
    servers = {"docker-registry": (options.stock, options.stock_pid), "serve": (options.own, options.own_pid)}
    request = urllib.request.Request(
        f"http://{options.stock}/v2/{options.name}/manifests/{options.tag}", headers=ACCEPT)
    with urllib.request.urlopen(request) as reply:
        layers = json.load(reply)["layers"]
    gigabytes = sum(layer["size"] for layer in layers) / (1 << 30)
    lines = {}
    for number in range(options.rounds):
        order = list(servers) if number % 2 == 0 else list(reversed(servers))
        figures = {}
        for server in order:
            address, pid = servers[server]
            download(address, options.name, layers)  # both warm
            before = cpu_seconds(pid)
            rate = download(address, options.name, layers)
            figures[server] = {"blobs, six at a time, MB/s": rate, "CPU of the server, s/GiB": (cpu_seconds(pid) - before) / gigabytes}
            before = cpu_seconds(pid)
            start = time.monotonic()
            rate = small(address, options.name, options.tag)
            spent = cpu_seconds(pid) - before
            figures[server]["manifests by tag, a second"] = rate
            figures[server]["manifests, a CPU second of the server"] = rate * (time.monotonic() - start) / max(spent, 0.01)
        for line in figures["serve"]:
            lines.setdefault(line, []).append((figures["serve"][line], figures["docker-registry"][line]))
    print(f"{'':<42}{'serve':>10}{'stock':>10}{'ratio':>8}  lowest to highest")
    for line, rounds in lines.items():
        ratios = [own / stock if stock else float("inf") for own, stock in rounds]
        print(
            f"{line:<42}{statistics.median(own for own, _ in rounds):>10.2f}"
            f"{statistics.median(stock for _, stock in rounds):>10.2f}"
            f"{statistics.median(ratios):>8.2f}  {min(ratios):.2f} to {max(ratios):.2f}")
    host, port = options.own.rsplit(":", 1)
    idle = []
    for _ in range(1000):
        client = socket.create_connection((host, int(port)))
        client.sendall(f"GET /v2/ HTTP/1.1\r\nHost: {options.own}\r\n\r\n".encode())
        client.recv(4096)
        idle.append(client)
    print(f"memory of serve with 1,000 connections: {resident_megabytes(options.own_pid):.1f} MB")


if __name__ == "__main__":
    main()
