"""Runs the tests of tests/http/cases_*.py and prints one line each."""
import glob
import importlib
import os
import sys
import time
import traceback

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, here)
import harness  # noqa: E402


def main():
    harness.BUILD = os.path.abspath(sys.argv[1])
    names = sys.argv[2:]
    for path in sorted(glob.glob(os.path.join(here, "cases_*.py"))):
        importlib.import_module(os.path.basename(path)[:-3])
    passed = failed = skipped = 0
    for name, function in harness.TESTS:
        if names and not any(n in name for n in names):
            continue
        start = time.time()
        try:
            function()
            harness.check_sanitizers()
            passed += 1
            print(f"PASS {name} ({time.time() - start:.1f} s)", flush=True)
        except harness.Skip as reason:
            skipped += 1
            print(f"SKIP: {name}: {reason}", flush=True)
        except Exception:
            failed += 1
            text = traceback.format_exc().strip().replace("\n", "\nFAIL   ")
            print(f"FAIL {name}\nFAIL   {text}", flush=True)
        finally:
            harness.stop_all()
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
