/* Makes system calls fail that write to files under one directory; loaded with LD_PRELOAD.

   Counts the calls of one group after `faults_arm`, and lets the one of a given number fail, or all from it on. What a
   library does through memory that is mapped goes by unseen. The functions `faults_*` are called through ctypes, so that
   a process that was forked with everything loaded can choose its own fault. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { ONCE = 0, FROM = 1, SHORT = 2, SHORT_THEN_FROM = 3 };

static char directory[4096];
static size_t directory_length;
static long wanted, seen, failed;
static int mode, error_number;

void faults_arm(const char *path, long number, int how, int error) {
    snprintf(directory, sizeof directory, "%s", path);
    directory_length = strlen(directory);
    wanted = number, mode = how, error_number = error, seen = failed = 0;
}
void faults_disarm(void) { directory_length = 0; }
long faults_seen(void) { return seen; }
long faults_failed(void) { return failed; }

static int is_ours(const char *path) {
    char full[4096];
    if (!directory_length || !path) return 0;
    if (path[0] != '/') {
        if (!getcwd(full, sizeof full)) return 0;
        size_t length = strlen(full);
        snprintf(full + length, sizeof full - length, "/%s", path);
        path = full;
    }
    return !strncmp(path, directory, directory_length);
}

static int is_our_fd(int fd) {
    char link[64], path[4096];
    if (!directory_length) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return is_ours(path);
}

/* Whether this call fails; `takes_room` where a full disk would make it. */
static int fails(int takes_room) {
    int full = mode == FROM || mode == SHORT_THEN_FROM;
    if (full && !takes_room) return 0; /* a full disk hinders neither fsync nor unlink */
    seen++;
    int now = full ? seen >= wanted : seen == wanted;
    if (now) failed++;
    return now;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define FAIL(result) do { errno = error_number; return (result); } while (0)

/* Whether the call that fails now writes a part instead. */
static int is_short(size_t count) {
    return count > 1 && (mode == SHORT || (mode == SHORT_THEN_FROM && failed == 1));
}

ssize_t write(int fd, const void *data, size_t count) {
    if (is_our_fd(fd) && fails(1)) {
        if (is_short(count)) return REAL(write)(fd, data, count / 2);
        if (mode != SHORT) FAIL(-1);
    }
    return REAL(write)(fd, data, count);
}
ssize_t pwrite(int fd, const void *data, size_t count, off_t at) {
    if (is_our_fd(fd) && fails(1)) {
        if (is_short(count)) return REAL(pwrite)(fd, data, count / 2, at);
        if (mode != SHORT) FAIL(-1);
    }
    return REAL(pwrite)(fd, data, count, at);
}
ssize_t pwrite64(int fd, const void *data, size_t count, off64_t at) {
    if (is_our_fd(fd) && fails(1)) {
        if (is_short(count)) return REAL(pwrite64)(fd, data, count / 2, at);
        if (mode != SHORT) FAIL(-1);
    }
    return REAL(pwrite64)(fd, data, count, at);
}
ssize_t writev(int fd, const struct iovec *parts, int count) {
    if (is_our_fd(fd) && fails(1)) {
        if (is_short((size_t)count)) return REAL(writev)(fd, parts, count / 2);
        if (mode != SHORT) FAIL(-1);
    }
    return REAL(writev)(fd, parts, count);
}
ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t at) {
    if (is_our_fd(fd) && fails(1)) {
        if (is_short((size_t)count)) return REAL(pwritev)(fd, parts, count / 2, at);
        if (mode != SHORT) FAIL(-1);
    }
    return REAL(pwritev)(fd, parts, count, at);
}
ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t at) {
    if (is_our_fd(fd) && fails(1)) {
        if (is_short((size_t)count)) return REAL(pwritev64)(fd, parts, count / 2, at);
        if (mode != SHORT) FAIL(-1);
    }
    return REAL(pwritev64)(fd, parts, count, at);
}

#define WHOLE(condition, takes_room, result) \
    if ((condition) && fails(takes_room) && mode != SHORT) FAIL(result)

int fsync(int fd) { WHOLE(is_our_fd(fd), 0, -1); return REAL(fsync)(fd); }
int fdatasync(int fd) { WHOLE(is_our_fd(fd), 0, -1); return REAL(fdatasync)(fd); }
int sync_file_range(int fd, off64_t at, off64_t length, unsigned flags) {
    WHOLE(is_our_fd(fd), 0, -1);
    return REAL(sync_file_range)(fd, at, length, flags);
}
int msync(void *start, size_t length, int flags) {
    WHOLE(directory_length, 0, -1); /* whose memory it is isn't asked */
    return REAL(msync)(start, length, flags);
}
int ftruncate(int fd, off_t length) { WHOLE(is_our_fd(fd), 1, -1); return REAL(ftruncate)(fd, length); }
int ftruncate64(int fd, off64_t length) { WHOLE(is_our_fd(fd), 1, -1); return REAL(ftruncate64)(fd, length); }
int truncate(const char *path, off_t length) { WHOLE(is_ours(path), 1, -1); return REAL(truncate)(path, length); }
int fallocate(int fd, int flags, off_t at, off_t length) {
    WHOLE(is_our_fd(fd), 1, -1);
    return REAL(fallocate)(fd, flags, at, length);
}
int posix_fallocate(int fd, off_t at, off_t length) {
    if (is_our_fd(fd) && fails(1) && mode != SHORT) return error_number;
    return REAL(posix_fallocate)(fd, at, length);
}
int posix_fallocate64(int fd, off64_t at, off64_t length) {
    if (is_our_fd(fd) && fails(1) && mode != SHORT) return error_number;
    return REAL(posix_fallocate64)(fd, at, length);
}
int rename(const char *from, const char *to) { WHOLE(is_ours(to), 1, -1); return REAL(rename)(from, to); }
int renameat(int d, const char *from, int e, const char *to) {
    WHOLE(is_ours(to), 1, -1);
    return REAL(renameat)(d, from, e, to);
}
int link(const char *from, const char *to) { WHOLE(is_ours(to), 1, -1); return REAL(link)(from, to); }
int unlink(const char *path) { WHOLE(is_ours(path), 0, -1); return REAL(unlink)(path); }
int unlinkat(int d, const char *path, int flags) { WHOLE(is_ours(path), 0, -1); return REAL(unlinkat)(d, path, flags); }

#define MODE_OF(flags, last) \
    unsigned bits = 0; \
    if ((flags) & (O_CREAT | O_TMPFILE)) { \
        va_list more; \
        va_start(more, last); \
        bits = va_arg(more, unsigned); \
        va_end(more); \
    }
/* Making a file takes room; opening one that is there doesn't. */
static int makes(const char *path, int flags) {
    return (flags & O_CREAT) && is_ours(path) && access(path, F_OK);
}

int open(const char *path, int flags, ...) {
    MODE_OF(flags, flags)
    WHOLE(makes(path, flags), 1, -1);
    return REAL(open)(path, flags, bits);
}
int open64(const char *path, int flags, ...) {
    MODE_OF(flags, flags)
    WHOLE(makes(path, flags), 1, -1);
    return REAL(open64)(path, flags, bits);
}
int openat(int d, const char *path, int flags, ...) {
    MODE_OF(flags, flags)
    WHOLE(makes(path, flags), 1, -1);
    return REAL(openat)(d, path, flags, bits);
}
int openat64(int d, const char *path, int flags, ...) {
    MODE_OF(flags, flags)
    WHOLE(makes(path, flags), 1, -1);
    return REAL(openat64)(d, path, flags, bits);
}
FILE *fopen(const char *path, const char *how) {
    WHOLE(how[0] != 'r' && is_ours(path) && access(path, F_OK), 1, NULL);
    return REAL(fopen)(path, how);
}
FILE *fopen64(const char *path, const char *how) {
    WHOLE(how[0] != 'r' && is_ours(path) && access(path, F_OK), 1, NULL);
    return REAL(fopen64)(path, how);
}
