"""Fills a server's database with many finished jobs and their events, straight through SQLite.

A job and its events that the server itself made are the pattern: whatever columns the tables have,
the copies have them too. The server must not run.
usage: fill.py DATA JOBS EVENTS_PER_JOB
"""
import sqlite3
import sys

NUMBERS = "WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < ?)"


def columns(db, table):
    return [row[1] for row in db.execute(f"PRAGMA table_info({table})")]


def job_id(i):
    return f"ftjob-{i:024d}"


def fill(data, jobs, events):
    db = sqlite3.connect(f"{data}/ffwd.db", isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = OFF")
    db.execute("PRAGMA cache_size = -200000")
    last, pattern = db.execute("SELECT max(seq), min(seq) FROM jobs").fetchone()
    own = {"seq": f"{last} + i", "id": "printf('ftjob-%024d', i)", "idempotency_key": "NULL",
           "fine_tuned_model": "printf('ft:bench:ffwd::%08d', i)"}
    names = columns(db, "jobs")
    values = ", ".join(own.get(name, f"p.{name}") for name in names)
    db.execute("BEGIN")
    db.execute(f"{NUMBERS} INSERT INTO jobs({', '.join(names)}) SELECT {values}"
               " FROM n, jobs p WHERE p.seq = ?", (jobs, pattern))
    db.execute(f"{NUMBERS} INSERT INTO job_data SELECT {last} + i, d.data"
               " FROM n, job_data d WHERE d.job_seq = ?", (jobs, pattern))
    # An event of the pattern is repeated under new numbers and steps.
    own = {"place": f"({last} + i) << 32 | k", "step": "k", "kind": "0"}
    names = columns(db, "events")
    values = ", ".join(own.get(name, f"p.{name}") for name in names)
    place, = db.execute("SELECT place FROM events WHERE place >> 32 = ? AND step > 0 LIMIT 1",
                        (pattern,)).fetchone()
    db.execute(f"{NUMBERS}, m(k) AS (VALUES (1) UNION ALL SELECT k + 1 FROM m WHERE k < ?)"
               f" INSERT INTO events({', '.join(names)}) SELECT {values}"
               " FROM n CROSS JOIN m, events p WHERE p.place = ?",
               (jobs, events, place))
    db.execute("COMMIT")
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()


if __name__ == "__main__":
    fill(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
