BEGIN IMMEDIATE;

CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS nodes (
    name TEXT PRIMARY KEY,
    vcpus INTEGER NOT NULL,
    memory_bytes INTEGER NOT NULL,
    storage_bytes INTEGER NOT NULL,
    vcpus_used INTEGER NOT NULL DEFAULT 0,
    memory_bytes_used INTEGER NOT NULL DEFAULT 0,
    storage_bytes_used INTEGER NOT NULL DEFAULT 0,
    instances INTEGER NOT NULL DEFAULT 0,
    reachable INTEGER NOT NULL DEFAULT 1,
    accepts_instances INTEGER NOT NULL DEFAULT 1,
    maintenance INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS machines (
    id TEXT PRIMARY KEY,
    node TEXT NOT NULL,
    name TEXT,              -- NULL while only left-over disks are there
    owned INTEGER NOT NULL,
    document BLOB NOT NULL
) WITHOUT ROWID;
CREATE UNIQUE INDEX IF NOT EXISTS machine_names ON machines (name) WHERE name IS NOT NULL;

-- Volumes and templates: storage that all nodes share.
CREATE TABLE IF NOT EXISTS stored (
    kind TEXT NOT NULL,
    pool TEXT NOT NULL,
    name TEXT NOT NULL,
    document BLOB NOT NULL,
    PRIMARY KEY (kind, pool, name)
) WITHOUT ROWID;

-- Calls that take time: under way until ``ready`` (CLOCK_MONOTONIC, NULL: until released), whatever becomes of the caller.
CREATE TABLE IF NOT EXISTS calls (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    machine TEXT NOT NULL,
    execution INTEGER NOT NULL,
    document BLOB NOT NULL,
    started REAL NOT NULL,
    ready REAL,
    held_by TEXT,
    done INTEGER NOT NULL DEFAULT 0,
    code TEXT,
    message TEXT
);
CREATE INDEX IF NOT EXISTS calls_under_way ON calls (machine) WHERE done = 0;

CREATE TABLE IF NOT EXISTS effects (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL,
    operation TEXT NOT NULL,
    name TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    execution INTEGER NOT NULL,
    pid INTEGER NOT NULL,
    kind TEXT NOT NULL,
    target TEXT NOT NULL,
    visible INTEGER NOT NULL,
    wall REAL NOT NULL,
    started REAL NOT NULL,
    ended REAL NOT NULL,
    arguments TEXT NOT NULL,
    after BLOB NOT NULL
);
-- The log is what the checker trusts: nobody rewrites it.
CREATE TRIGGER IF NOT EXISTS effects_stay BEFORE UPDATE ON effects BEGIN SELECT raise(ABORT, 'the effect log is append-only'); END;
CREATE TRIGGER IF NOT EXISTS effects_remain BEFORE DELETE ON effects BEGIN SELECT raise(ABORT, 'the effect log is append-only'); END;

CREATE TABLE IF NOT EXISTS executions (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL,
    operation TEXT NOT NULL,
    name TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    pid INTEGER NOT NULL,
    began REAL NOT NULL,
    guarded REAL,
    ended REAL,
    how TEXT
);

CREATE TABLE IF NOT EXISTS faults (
    name TEXT PRIMARY KEY,
    document BLOB NOT NULL,
    seen INTEGER NOT NULL DEFAULT 0,
    fired INTEGER NOT NULL DEFAULT 0,
    spent INTEGER NOT NULL DEFAULT 0,
    released INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS firings (
    id INTEGER PRIMARY KEY AUTOINCREMENT, fault TEXT NOT NULL, wall REAL NOT NULL, spot BLOB NOT NULL
);

COMMIT;
