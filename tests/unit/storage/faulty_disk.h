/* faulty_disk: SQLite's own files on a disk whose n-th operation fails.
 *
 * What:    a layer below SQLite (a VFS) that passes everything on to the system's, but fails the
 *          n-th write, sync or truncate, once.
 * Owns:    the registration, for the life of the process.
 * Threads: one.
 * Errors:  none of its own.
 */
#ifndef FFWD_TESTS_STORAGE_FAULTY_DISK_H
#define FFWD_TESTS_STORAGE_FAULTY_DISK_H

#include <sqlite3.h>
#include <stdbool.h>
#include <string.h>

/* Operations until the fault; 0 or less: none. */
static int fault_countdown;
static int fault_code; /* SQLITE_FULL, SQLITE_IOERR_FSYNC, … */
static int fault_hits;

struct faulty_file {
    sqlite3_file base;
    sqlite3_file *real; /* follows in memory */
};

static inline sqlite3_file *real_of(sqlite3_file *f) {
    return ((struct faulty_file *)f)->real;
}

static inline bool fails(void) {
    bool now = fault_countdown > 0 && --fault_countdown == 0;
    fault_hits += now;
    return now;
}

static int f_close(sqlite3_file *f) {
    return real_of(f)->pMethods->xClose(real_of(f));
}
static int f_read(sqlite3_file *f, void *p, int n, sqlite3_int64 at) {
    return real_of(f)->pMethods->xRead(real_of(f), p, n, at);
}
/* Half of the bytes arrive, as when the power fails or the disk fills up. */
static int f_write(sqlite3_file *f, const void *p, int n, sqlite3_int64 at) {
    if (!fails())
        return real_of(f)->pMethods->xWrite(real_of(f), p, n, at);
    (void)real_of(f)->pMethods->xWrite(real_of(f), p, n / 2, at);
    return fault_code;
}
static int f_truncate(sqlite3_file *f, sqlite3_int64 n) {
    return fails() ? fault_code : real_of(f)->pMethods->xTruncate(real_of(f), n);
}
static int f_sync(sqlite3_file *f, int flags) {
    return fails() ? fault_code : real_of(f)->pMethods->xSync(real_of(f), flags);
}
static int f_size(sqlite3_file *f, sqlite3_int64 *n) {
    return real_of(f)->pMethods->xFileSize(real_of(f), n);
}
static int f_lock(sqlite3_file *f, int level) {
    return real_of(f)->pMethods->xLock(real_of(f), level);
}
static int f_unlock(sqlite3_file *f, int level) {
    return real_of(f)->pMethods->xUnlock(real_of(f), level);
}
static int f_reserved(sqlite3_file *f, int *out) {
    return real_of(f)->pMethods->xCheckReservedLock(real_of(f), out);
}
static int f_control(sqlite3_file *f, int op, void *arg) {
    return real_of(f)->pMethods->xFileControl(real_of(f), op, arg);
}
static int f_sector(sqlite3_file *f) {
    return real_of(f)->pMethods->xSectorSize(real_of(f));
}
static int f_character(sqlite3_file *f) {
    return real_of(f)->pMethods->xDeviceCharacteristics(real_of(f));
}
static int f_shm_map(sqlite3_file *f, int page, int size, int extend, void volatile **out) {
    return real_of(f)->pMethods->xShmMap(real_of(f), page, size, extend, out);
}
static int f_shm_lock(sqlite3_file *f, int offset, int n, int flags) {
    return real_of(f)->pMethods->xShmLock(real_of(f), offset, n, flags);
}
static void f_shm_barrier(sqlite3_file *f) {
    real_of(f)->pMethods->xShmBarrier(real_of(f));
}
static int f_shm_unmap(sqlite3_file *f, int remove) {
    return real_of(f)->pMethods->xShmUnmap(real_of(f), remove);
}

static const sqlite3_io_methods faulty_methods = {
    .iVersion = 2,
    .xClose = f_close,
    .xRead = f_read,
    .xWrite = f_write,
    .xTruncate = f_truncate,
    .xSync = f_sync,
    .xFileSize = f_size,
    .xLock = f_lock,
    .xUnlock = f_unlock,
    .xCheckReservedLock = f_reserved,
    .xFileControl = f_control,
    .xSectorSize = f_sector,
    .xDeviceCharacteristics = f_character,
    .xShmMap = f_shm_map,
    .xShmLock = f_shm_lock,
    .xShmBarrier = f_shm_barrier,
    .xShmUnmap = f_shm_unmap,
};

static int faulty_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *f, int flags, int *out) {
    sqlite3_vfs *system = vfs->pAppData;
    struct faulty_file *file = (struct faulty_file *)f;
    memset(file, 0, (size_t)vfs->szOsFile);
    file->real = (sqlite3_file *)(file + 1);
    int rc = system->xOpen(system, name, file->real, flags, out);
    f->pMethods = file->real->pMethods != NULL ? &faulty_methods : NULL;
    return rc;
}

/* From now on every database of the process is opened through the layer. */
static inline void faulty_disk_install(void) {
    static sqlite3_vfs faulty;
    sqlite3_vfs *system = sqlite3_vfs_find(NULL);
    faulty = *system;
    faulty.zName = "faulty";
    faulty.pAppData = system;
    faulty.szOsFile = system->szOsFile + (int)sizeof(struct faulty_file);
    faulty.xOpen = faulty_open;
    sqlite3_vfs_register(&faulty, 1);
}

#endif
