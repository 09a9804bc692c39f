"""What the one who runs the server uses: versions, signals, the level of the log."""
import os
import re
import signal
import subprocess

import harness
from harness import Server, alone, test, until


def server_that_meets_a_hangup(how):
    before = signal.signal(signal.SIGHUP, how)
    try:
        return Server()
    finally:
        signal.signal(signal.SIGHUP, before)


@test
def both_programs_say_their_version():
    version = Server().get("/healthz").json()["version"]
    for program in ("ffwd", "ffwd-server"):
        done = subprocess.run([os.path.join(harness.BUILD, program), "--version"],
                              capture_output=True, text=True, check=True)
        assert done.stdout == f"{program} {version}\n", done


@test
@alone
def a_hangup_drains():
    s = server_that_meets_a_hangup(signal.SIG_DFL)  # also where these tests run under nohup
    job = s.create("steps2000-ms5")
    s.reaches(job, 3)
    assert s.stop(signal.SIGHUP) == 0
    assert "server.stop clean=yes" in s.log() and not s.workers()
    s.start()
    until(lambda: s.job(job)["status"] == "running")
    messages = [e["message"] for e in s.events(job)]
    assert any(m.startswith("Training stopped at a resume point") for m in messages), messages


@test
def a_hangup_under_nohup_is_ignored():
    s = server_that_meets_a_hangup(signal.SIG_IGN)
    s.process.send_signal(signal.SIGHUP)
    assert s.ended(s.create())["status"] == "succeeded"
    assert s.stop() == 0


@test
def the_log_has_the_lines_of_its_level():
    s = Server(config={"log_level": "debug"})
    assert s.get("/v1/models").status == 200
    until(lambda: re.search(r" info http\.request .*path=/v1/models ", s.log()))
    s.stop()
    s = Server(start=False, args=("--log-level", "warn"))
    os.rename(s.models, s.models + ".away")
    s.start(wait=False)
    until(lambda: " warn server.models " in s.log())
    assert s.stop() == 0 and " info " not in s.log(), s.log()
