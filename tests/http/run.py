"""Runs the tests of tests/http/cases_*.py and prints one line each: several at a time, each with
servers of its own; then, one after the other, those that measure time."""
import concurrent.futures
import glob
import importlib
import multiprocessing
import os
import sys
import time
import traceback

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, here)
import harness  # noqa: E402

# Most of a test is waiting.
AT_ONCE = int(os.environ.get("FFWD_TESTS_AT_ONCE", 0)) or min(8, (os.cpu_count() or 1) + 2)


def run(index):
    """In a process of its own: passed, failed or skipped, and what to print."""
    name, function = harness.TESTS[index]
    start = time.time()
    try:
        function()
        harness.check_sanitizers()
        return "passed", f"PASS {name} ({time.time() - start:.1f} s)"
    except harness.Skip as reason:
        return "skipped", f"SKIP: {name}: {reason}"
    except Exception:
        text = traceback.format_exc().strip().replace("\n", "\nFAIL   ")
        return "failed", f"FAIL {name}\nFAIL   {text}"
    finally:
        harness.stop_all()


def run_all(indices, at_once, counts):
    fork = multiprocessing.get_context("fork")
    with concurrent.futures.ProcessPoolExecutor(at_once, fork) as pool:
        begun = {pool.submit(run, i): harness.TESTS[i][0] for i in indices}
        for future in concurrent.futures.as_completed(begun):
            try:
                result, text = future.result()
            except concurrent.futures.process.BrokenProcessPool:
                result, text = "failed", f"FAIL {begun[future]}: its process, or one beside it, died"
            counts[result] += 1
            print(text, flush=True)


def main():
    harness.BUILD = os.path.abspath(sys.argv[1])
    names = sys.argv[2:]
    for path in sorted(glob.glob(os.path.join(here, "cases_*.py"))):
        importlib.import_module(os.path.basename(path)[:-3])
    wanted = [i for i, (name, _) in enumerate(harness.TESTS)
              if not names or any(n in name for n in names)]
    alone = [i for i in wanted if harness.TESTS[i][1] in harness.ALONE]
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    run_all([i for i in wanted if i not in alone], AT_ONCE, counts)
    run_all(alone, 1, counts)
    print(", ".join(f"{n} {result}" for result, n in counts.items()))
    return counts["failed"] > 0


if __name__ == "__main__":
    sys.exit(main())
