#!/usr/bin/env python3
"""Carries out a Dockerfile's steps in debootstrap folders, for machines without a container engine.

usage (as root): tests/docker/prove.py docker/Dockerfile.cpu [WORK_FOLDER]

Understands what our Dockerfiles use: FROM, WORKDIR, COPY (--from), RUN, ENV, USER, and at the end
starts the ENTRYPOINT as the image would, asks /healthz, creates a key and runs the engine. A stage FROM an
image that is not Debian's (the CUDA toolkit) is taken from this machine's own /usr/local/cuda*.
"""

import glob
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
PORT = 18080


def run(*command, **kw):
    return subprocess.run([str(c) for c in command], check=True, **kw)


def mirror():
    sites = run("apt-get", "indextargets", "--format", "$(SITE)", capture_output=True, text=True).stdout
    return sites.split()[0]


def debian(folder):
    """A fresh Debian root that reaches packages the way this machine does."""
    run("debootstrap", "--variant=minbase", "bookworm", folder, mirror(), stdout=subprocess.DEVNULL)
    for path in ("/etc/resolv.conf", "/etc/apt/apt.conf.d", "/etc/ssl/certs"):
        target = folder / path[1:]
        if os.path.isdir(path):
            shutil.copytree(path, target, dirs_exist_ok=True)
        elif os.path.exists(path):
            shutil.copy(path, target)


def instructions(dockerfile):
    text = re.sub(r"\\\n", " ", re.sub(r"^\s*#.*\n", "", dockerfile.read_text(), flags=re.M))
    for line in text.splitlines():
        if line.strip():
            word, rest = line.strip().split(None, 1)
            yield word.upper(), rest


class Stage:
    def __init__(self, root):
        self.root, self.workdir, self.env, self.user = root, "/", {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}, "root"

    def path(self, inside):
        return self.root / os.path.join(self.workdir, inside).lstrip("/")

    def shell(self, command, **kw):
        script = f"cd {shlex.quote(self.workdir)} && {command}"
        chroot = ["chroot", f"--userspec={self.user}", self.root, "/bin/sh", "-ec", script]
        return run("unshare", "--mount", "--pid", "--fork", f"--mount-proc={self.root}/proc", *chroot,
                   env=self.env, **kw)

    def copy(self, sources, target, origin):
        folder = self.path(target)
        into = target.endswith("/") or target == "." or len(sources) > 1 or folder.is_dir()
        for pattern in sources:
            matches = glob.glob(str(origin / pattern.lstrip("/")))
            if not matches:
                raise SystemExit(f"COPY: nothing matches {pattern}")
            for source in matches:
                if os.path.isdir(source):
                    shutil.copytree(source, folder, dirs_exist_ok=True, symlinks=True)
                else:
                    (folder if into else folder.parent).mkdir(parents=True, exist_ok=True)
                    shutil.copy2(source, folder)


def context(work):
    """The committed tree, as .dockerignore would leave it."""
    folder = work / "context"
    folder.mkdir()
    archive = run("git", "-C", ROOT, "archive", "HEAD", capture_output=True).stdout
    run("tar", "-x", "-C", folder, input=archive)
    return folder


def build(dockerfile, work):
    base, stages, order, command = work / "base", {}, [], {}
    debian(base)
    tree = context(work)
    for word, rest in instructions(dockerfile):
        print(f"== {word} {rest}", flush=True)
        if word == "FROM":
            image, *named = rest.split()
            root = work / f"stage{len(order)}"
            if image.startswith("debian:"):
                run("cp", "-a", base, root)
            else:
                (root / "usr/local").mkdir(parents=True)
                for toolkit in glob.glob("/usr/local/cuda-*"):
                    os.symlink(toolkit, root / "usr/local" / os.path.basename(toolkit))
            order.append(Stage(root))
            stages[named[1] if named else str(len(order) - 1)] = order[-1]
        elif word == "WORKDIR":
            order[-1].workdir = rest
            order[-1].path(".").mkdir(parents=True, exist_ok=True)
        elif word == "RUN":
            order[-1].shell(rest)
        elif word == "COPY":
            words = rest.split()
            origin = stages[words.pop(0).split("=")[1]].root if words[0].startswith("--from=") else tree
            order[-1].copy(words[:-1], words[-1], origin)
        elif word == "ENV":
            for pair in shlex.split(rest):
                name, value = pair.split("=", 1)
                order[-1].env[name] = os.path.expandvars(value.replace("$PATH", order[-1].env["PATH"]))
        elif word == "USER":
            order[-1].user = rest
        elif word in ("ENTRYPOINT", "CMD"):
            command[word] = json.loads(rest)
    return order[-1], command["ENTRYPOINT"], command["CMD"]


def prove(image, entrypoint, arguments):
    image.env["PATH"] = "/usr/local/bin:" + image.env["PATH"]
    image.shell("ffwd help")
    key = image.shell(f"{entrypoint[0]} keys create --data /data", stdout=subprocess.PIPE, text=True).stdout.strip()
    arguments = [a.replace("0.0.0.0:8080", f"127.0.0.1:{PORT}") for a in arguments]
    mount = f"mount --bind /proc {shlex.quote(str(image.root))}/proc; exec \"$@\""  # as containers have it
    server = subprocess.Popen(["unshare", "--mount", "/bin/sh", "-ec", mount, "sh", "chroot", f"--userspec={image.user}",
                               image.root, *entrypoint, *arguments], env=image.env)
    try:
        for _ in range(100):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{PORT}/healthz", timeout=1).read()
                break
            except OSError:
                time.sleep(0.1)
        request = urllib.request.Request(f"http://127.0.0.1:{PORT}/v1/models", headers={"Authorization": f"Bearer {key}"})
        models = [m["id"] for m in json.load(urllib.request.urlopen(request))["data"]]
        print("models:", models)
        assert "ffwd-tiny" in models
    finally:
        server.terminate()
        assert server.wait(40) == 0, "the server did not stop cleanly"


def main():
    dockerfile = pathlib.Path(sys.argv[1]).resolve()
    work = pathlib.Path(sys.argv[2] if len(sys.argv) > 2 else "/var/tmp/ffwd-docker").resolve()
    if work.exists():
        raise SystemExit(f"{work} exists; remove it first")
    work.mkdir(parents=True)
    prove(*build(dockerfile, work))
    print(f"proved: every step of {dockerfile.name}; remove {work} when done")


if __name__ == "__main__":
    main()
