/* Fails the n-th call of one kind, counted over the process, with one errno: for fault_injection.py (LD_PRELOAD).
   FAULT_CALL: write, fsync, rename, open or mmap; FAULT_AT: n, from 1 (0: none); FAULT_ERRNO: a number;
   FAULT_COUNT: file that gets the number of calls at the end. Only writes and opens for writing below FAULT_UNDER count. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static atomic_long calls;

static int fails(const char *call) {
    const char *wanted = getenv("FAULT_CALL");
    if (!wanted || strcmp(wanted, call)) return 0;
    long number = atomic_fetch_add(&calls, 1) + 1;
    const char *at = getenv("FAULT_AT"), *code = getenv("FAULT_ERRNO");
    if (!at || number != atol(at)) return 0;
    errno = code ? atoi(code) : ENOSPC;
    return 1;
}

static int ours(int file) {
    char link[64], name[PATH_MAX];
    const char *under = getenv("FAULT_UNDER");
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, name, sizeof name - 1);
    if (length < 0 || !under) return 0;
    name[length] = 0;
    return !strncmp(name, under, strlen(under));
}

static int named(const char *path) {
    const char *under = getenv("FAULT_UNDER");
    return under && path && !strncmp(path, under, strlen(under));
}

__attribute__((destructor)) static void tell(void) {
    const char *path = getenv("FAULT_COUNT");
    FILE *file = path ? fopen(path, "w") : NULL;
    if (file) { fprintf(file, "%ld", (long)calls); fclose(file); }
}

#define REAL(result, name, ...) ((result(*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name))

ssize_t write(int file, const void *data, size_t size) {
    if (ours(file) && fails("write")) return -1;
    return REAL(ssize_t, write, int, const void *, size_t)(file, data, size);
}
ssize_t pwrite(int file, const void *data, size_t size, off_t at) {
    if (ours(file) && fails("write")) return -1;
    return REAL(ssize_t, pwrite, int, const void *, size_t, off_t)(file, data, size, at);
}
ssize_t writev(int file, const struct iovec *parts, int count) {
    if (ours(file) && fails("write")) return -1;
    return REAL(ssize_t, writev, int, const struct iovec *, int)(file, parts, count);
}
int fsync(int file) {
    if (fails("fsync")) return -1;
    return REAL(int, fsync, int)(file);
}
int rename(const char *from, const char *to) {
    if (named(to) && fails("rename")) return -1;
    return REAL(int, rename, const char *, const char *)(from, to);
}
#define OPEN(name)                                                        \
    int name(const char *path, int flags, ...) {                          \
        va_list more;                                                     \
        va_start(more, flags);                                            \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0; \
        va_end(more);                                                     \
        if (named(path) && (flags & O_ACCMODE) != O_RDONLY && fails("open")) return -1; \
        return REAL(int, name, const char *, int, ...)(path, flags, mode); \
    }
OPEN(open)
OPEN(open64)
