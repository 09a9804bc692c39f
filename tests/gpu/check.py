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
# run with each of FFWD_CUDA_ATTENTION's values
ATTENTION = ("ops_test_attention", "reference_test_model", "reference_test_gradients",
             "reference_test_training")


def main():
    folder = os.path.abspath(sys.argv[1])
    start, results = time.monotonic(), []
    lib = os.path.join(folder, "lib")
    env = {"FFWD_CUDA_ALGORITHMS": os.path.join(folder, "algorithms"), **os.environ,
           "FFWD_PROGRAM": os.path.join(folder, "ffwd"),
           "LD_LIBRARY_PATH": lib + ":" + os.environ.get("LD_LIBRARY_PATH", "")}

    def check(name, command, most, attention=None):
        """Runs a command; True if it passed. attention: who computes it, if that is to be fixed."""
        own_env = env if attention is None else {**env, "FFWD_CUDA_ATTENTION": attention}
        name = name if attention is None else f"{name}, attention by {attention}"
        began = time.monotonic()
        left = SECONDS - (began - start)
        if left < 1:
            status, text = "skipped", "no time left"
        else:
            try:
                done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=own_env,
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
        if status == "failed" and "asks for cuDNN: " in text:
            status = "absent"  # no library, or none of this version: nothing of it was run
        detail = f"{tested[2]} of {tested[1]}" if tested else text.strip()[-1500:]
        if tested and status != "passed":
            bad = [line for line in text.splitlines() if line.startswith("[----]") or "FAIL" in line]
            detail += ": " + " ".join(bad)[:1500]
        results.append({"check": name, "status": status, "detail": detail,
                        "seconds": round(time.monotonic() - began, 1)})
        print(f"{status:8} {name} ({results[-1]['seconds']} s): {detail}", flush=True)
        return status == "passed"

    ffwd = os.path.join(folder, "ffwd")
    step = [ffwd, "bench", "--shape", "smollm2-135m", "--device", "cuda", "--dtype", "bf16", "--seq",
            "64", "--batch", "1", "--steps", "1"]
    if check("device", step, 90):
        choices = ["own", "cudnn"] if check("device", step, 90, "cudnn") else ["own"]
        for group in ("ops", "reference"):
            for test in sorted(glob.glob(os.path.join(folder, group + "_test_*"))):
                name = os.path.basename(test)
                for choice in choices if name in ATTENTION else [None]:
                    check(name.replace("_test_", " "), [test, "--color=never", "-j4"], 120, choice)
        for choice in choices:
            check("ffwd train, killed and resumed", [os.path.join(folder, "test_run"), "-j1"], 120,
                  choice)
        check("ffwd-server, worker and server killed",
              [sys.executable, "tests/gpu/server_job.py", folder], 150)
        check("bench", [sys.executable, "tests/gpu/bench.py", folder, "--quick"], 150)
    passed = sum(r["status"] == "passed" for r in results)
    absent = sum(r["status"] == "absent" for r in results)
    with open(os.path.join(folder, "check.json"), "w", encoding="utf-8") as f:
        json.dump({"passed": passed, "absent": absent, "checks": results,
                   "seconds": round(time.monotonic() - start, 1)}, f, indent=1)
    print(f"{passed} of {len(results) - absent} checks passed in {time.monotonic() - start:.0f} s"
          + (f"; {absent} without cuDNN could not be made" if absent else ""))
    return 0 if passed == len(results) - absent else 1


sys.exit(main())
