#!/usr/bin/env python3
"""What a hostile user of the machine can set up, for other-users.sh.

  hostile.py mount SOURCE POINT USER   root acts for a user: the line in the table of mounts is that
                                       of a FUSE mount which the user makes by fusermount3. Nobody
                                       serves it, so whoever touches it hangs. Runs until it is killed.
  hostile.py daemon STATE MODE LOG     listens at STATE/control.sock as a daemon does, and notes in LOG
                                       that somebody came. MODE: endless, escapes, blocks, drip.
"""
import ctypes
import json
import os
import socket
import sys
import time


def mount(source, point, user):
    device = os.open("/dev/fuse", os.O_RDWR)
    data = f"fd={device},rootmode=40000,user_id={user},group_id={user},allow_other"
    libc = ctypes.CDLL(None, use_errno=True)
    # MS_NOSUID | MS_NODEV, as fusermount3 has them.
    if libc.mount(source.encode(), point.encode(), b"fuse.registryfs", 6, data.encode()) != 0:
        sys.exit(f"mount: {os.strerror(ctypes.get_errno())}")
    print("mounted", flush=True)
    while True:
        time.sleep(60)


def line(value):
    return json.dumps(value).encode() + b"\n"


ESCAPES = "\x1b]0;owned\x07\x1b[2J\x9b31m"


def answer(client, mode):
    request = json.loads(client.makefile("rb").readline())
    command = request["command"]
    if mode == "drip":
        while True:
            client.sendall(b" ")
            time.sleep(0.5)
    if mode == "endless":
        while True:
            client.sendall(line({"working": True}))
            time.sleep(0.2)
    if mode == "escapes":
        if command == "status":
            status = {"mountpoint": ESCAPES, "stateDirectory": ESCAPES, "version": ESCAPES}
            status.update(profile=ESCAPES, rootCID=ESCAPES, passthroughOff=ESCAPES)
            client.sendall(line({"done": {"version": 1, "status": status}}))
        elif command == "cid":
            client.sendall(line({"done": {"version": 1, "cid": ESCAPES}}))
        else:
            failed = {"version": 1, "kind": "failed", "message": ESCAPES}
            client.sendall(line({"failed": failed}))
    if mode == "blocks":
        # An archive that begins well: the header alone says for whom it is.
        bytes_ = b"these are not the bytes"
        client.sendall(line({"data": len(bytes_)}) + bytes_)
        client.sendall(line({"done": {"version": 1}}))


def daemon(state, mode, log):
    path = os.path.join(state, "control.sock")
    if os.path.exists(path):
        os.unlink(path)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    os.chmod(path, 0o777 if os.geteuid() else 0o600)
    listener.listen(16)
    print("listening", flush=True)
    while True:
        client, _ = listener.accept()
        if os.fork() == 0:
            with open(log, "a") as notes:
                notes.write("somebody came\n")
            try:
                answer(client, mode)
            except OSError:
                pass
            os._exit(0)
        client.close()


if __name__ == "__main__":
    {"mount": mount, "daemon": daemon}[sys.argv[1]](*sys.argv[2:])
