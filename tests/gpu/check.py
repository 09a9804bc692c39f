"""Everything that has to be shown on a machine with a GPU, in under 8 minutes: operations, golden
models, whole jobs, speed. No network, nothing to install; `make gpu-build` made FOLDER, here or on
another machine.

Prints a line for each check and a summary, writes FOLDER/check.json, exits 0 only if all passed.
usage: check.py FOLDER
"""
import glob
import json
import os
import re
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SECONDS = 470  # for everything


def main():
    folder = os.path.abspath(sys.argv[1])
    start, results = time.monotonic(), []
    lib = os.path.join(folder, "lib")
    env = {**os.environ, "FFWD_PROGRAM": os.path.join(folder, "ffwd"),
           "LD_LIBRARY_PATH": lib + ":" + os.environ.get("LD_LIBRARY_PATH", "")}

    def check(name, command, most):
        """Runs a command; True if it passed."""
        began = time.monotonic()
        left = SECONDS - (began - start)
        if left < 1:
            status, text = "skipped", "no time left"
        else:
            try:
                done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=env,
                                      timeout=min(most, left), check=False)
                status = "passed" if done.returncode == 0 else "failed"
                text = done.stdout + done.stderr
            except subprocess.TimeoutExpired:
                status, text = "failed", f"not within {min(most, left):.0f} s"
            except OSError as error:
                status, text = "failed", str(error)
        tested = re.search(r"Tested: (\d+) \| Passing: (\d+)", text)
        if tested and int(tested[1]) == 0:
            status = "failed"
        detail = f"{tested[2]} of {tested[1]}" if tested else text.strip()[-1500:]
        if tested and status != "passed":
            bad = [line for line in text.splitlines() if line.startswith("[----]") or "FAIL" in line]
            detail += ": " + " ".join(bad)[:1500]
        results.append({"check": name, "status": status, "detail": detail,
                        "seconds": round(time.monotonic() - began, 1)})
        print(f"{status:8} {name} ({results[-1]['seconds']} s): {detail}", flush=True)
        return status == "passed"

    ffwd = os.path.join(folder, "ffwd")
    if check("device", [ffwd, "bench", "--shape", "smollm2-135m", "--device", "cuda", "--dtype",
                        "bf16", "--seq", "64", "--batch", "1", "--steps", "1"], 90):
        for group in ("ops", "reference"):
            for test in sorted(glob.glob(os.path.join(folder, group + "_test_*"))):
                check(os.path.basename(test).replace("_test_", " "),
                      [test, "--color=never", "-j4"], 120)
        check("ffwd train, killed and resumed", [os.path.join(folder, "test_run"), "-j1"], 120)
        check("ffwd-server, worker and server killed",
              [sys.executable, "tests/gpu/server_job.py", folder], 150)
        check("bench", [sys.executable, "tests/gpu/bench.py", folder, "--quick"], 150)
    passed = sum(r["status"] == "passed" for r in results)
    with open(os.path.join(folder, "check.json"), "w", encoding="utf-8") as f:
        json.dump({"passed": passed, "checks": results,
                   "seconds": round(time.monotonic() - start, 1)}, f, indent=1)
    print(f"{passed} of {len(results)} checks passed in {time.monotonic() - start:.0f} s")
    return 0 if passed == len(results) else 1


sys.exit(main())
