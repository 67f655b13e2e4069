/* A disk in trouble, as SQLite sees it: preloaded, it answers system calls on the files of an event log with an error.
 *
 * LLMUX_TEST_DISK names a file of five 64-bit numbers: an errno for each kind of call (0 = as usual), how many bytes may still
 * be written before writing fails, and how many calls have failed so far.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { WRITE, SYNC, READ, ROOM, FAILED, FIELDS };

static volatile int64_t *control(void) {
    static volatile int64_t *found;
    const char *path = getenv("LLMUX_TEST_DISK");
    if (found == NULL && path != NULL) {
        int file = syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC, 0);
        void *shared = mmap(NULL, FIELDS * sizeof *found, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        syscall(SYS_close, file);
        if (shared != MAP_FAILED)
            found = shared;
    }
    return found;
}

static int fails(int call) {
    volatile int64_t *disk = control();
    if (disk == NULL || disk[call] == 0)
        return 0;
    disk[FAILED]++;
    errno = (int)disk[call];
    return 1;
}

static int concerns(int file) {
    char link[64] = "/proc/self/fd/", path[4096], digits[16];
    int length = 0, end = (int)strlen(link);
    volatile int64_t *disk = control();
    if (disk == NULL)
        return 0;
    do digits[length++] = (char)('0' + file % 10);
    while ((file /= 10) > 0);
    while (length > 0)
        link[end++] = digits[--length];
    link[end] = 0;
    ssize_t size = syscall(SYS_readlinkat, AT_FDCWD, link, path, sizeof path - 1);
    path[size < 0 ? 0 : size] = 0;
    return strstr(path, "events.db") != NULL;
}

/* How much of a write of `size` bytes may happen. */
static ssize_t room(size_t size) {
    volatile int64_t *disk = control();
    if (disk[WRITE] == 0)
        return (ssize_t)size;
    if (disk[ROOM] <= 0)
        return fails(WRITE) ? -1 : 0;
    if ((int64_t)size > disk[ROOM])
        size = (size_t)disk[ROOM];
    disk[ROOM] -= (int64_t)size;
    return (ssize_t)size;
}

ssize_t pwrite64(int file, const void *data, size_t size, off64_t at) {
    ssize_t may = concerns(file) ? room(size) : (ssize_t)size;
    return may < 0 ? -1 : syscall(SYS_pwrite64, file, data, (size_t)may, at);
}
ssize_t pwrite(int file, const void *data, size_t size, off_t at) { return pwrite64(file, data, size, at); }
ssize_t write(int file, const void *data, size_t size) {
    ssize_t may = concerns(file) ? room(size) : (ssize_t)size;
    return may < 0 ? -1 : syscall(SYS_write, file, data, (size_t)may);
}

int fsync(int file) { return concerns(file) && fails(SYNC) ? -1 : (int)syscall(SYS_fsync, file); }
int fdatasync(int file) { return concerns(file) && fails(SYNC) ? -1 : (int)syscall(SYS_fdatasync, file); }

ssize_t pread64(int file, void *data, size_t size, off64_t at) {
    return concerns(file) && fails(READ) ? -1 : syscall(SYS_pread64, file, data, size, at);
}
ssize_t pread(int file, void *data, size_t size, off_t at) { return pread64(file, data, size, at); }
